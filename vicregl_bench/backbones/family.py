"""The families of backbones, whose protocols differ (VICRegL, appendix D.2)."""

from typing import Literal

Family = Literal["resnet", "convnext", "vit", "swin"]
