"""Frozen linear segmentation on mmsegmentation's data sets, transforms and metric."""
