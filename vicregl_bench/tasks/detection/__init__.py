"""Object detection on mmdetection's detectors and data sets."""
