"""Correspondence: the cells of two views of a picture, matched by the similarity of features."""
