"""Tests of vicregl_bench.data."""
