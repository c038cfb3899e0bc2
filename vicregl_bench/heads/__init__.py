"""Heads: many linear classifiers trained at once over one pass of a frozen backbone."""
