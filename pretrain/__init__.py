"""VICRegL pretraining: views, matching, criterion, optimisation.

Hands over nothing but a checkpoint file; imports nothing from tasks, records or tables.
"""
