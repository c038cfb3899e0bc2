"""Heads: many classifiers of pixels trained at once over one pass of a frozen backbone."""
