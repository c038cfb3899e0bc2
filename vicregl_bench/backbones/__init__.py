"""Backbones: feature maps with known strides, frozen or not."""
