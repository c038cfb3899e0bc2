"""Tests of checkpoints, on files built in the layouts that methods publish."""
