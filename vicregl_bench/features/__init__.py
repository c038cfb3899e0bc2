"""Vectors of pictures by a frozen trunk, computed once, and what is read off them directly.

`extractor` makes them, `shards` stores them, `checksums` says what is whole, `shared_files` lets
processes make files together, `cache` finds features of whole pictures again, `dense_bank` those of
patches, `neighbour_files` what was found near them; `knn`, `svm`, `logistic` and `linear_training`
classify with them.
"""
