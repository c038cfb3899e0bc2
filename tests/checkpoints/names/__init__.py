"""Tests of key names, against the projects that they are of wherever those are installed."""
