"""Vectors of pictures by a frozen trunk, computed once, and what is read off them directly.

`extractor` makes them, `shards` stores them, `checksums` says what is whole, `cache` finds those of
whole pictures again, `dense_bank` those of patches; `knn`, `svm`, `logistic` and `linear_training`
classify with them.
"""
