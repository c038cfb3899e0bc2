"""Vectors of whole pictures by a frozen trunk, computed once, and what is read off them directly.

`extractor` makes them, `shards` stores them, `cache` finds them again, `knn` classifies with them.
"""
