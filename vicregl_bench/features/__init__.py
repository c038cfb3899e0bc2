"""Vectors of pictures by a frozen trunk, computed once, and what is read off them directly.

`extractor` makes them, `shards` stores them, `checksums` says what is whole, `shared_files` lets
processes make files together, `cache` finds those of whole pictures again, `neighbour_files` their
neighbours, `dense_bank` those of patches; `knn`, `svm`, `logistic` and `linear_training`
classify with them.
"""
