"""Training in bfloat16 where torch's autocast allows it."""

from contextlib import contextmanager
from typing import Any

import torch
from mmengine.optim import OptimWrapper
from torch import nn


class AutocastOptimWrapper(OptimWrapper):  # type: ignore[misc]
    """Trains under autocast to bfloat16, which needs no scaling of the loss, on any device.

    Args:
        device_type: "cpu" or "cuda".
        kwargs: of mmengine's wrapper.
    """

    def __init__(self, device_type: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.device_type = device_type

    @contextmanager
    def optim_context(self, model: nn.Module) -> Any:
        """The forward's context."""
        with (
            super().optim_context(model),
            torch.autocast(self.device_type, dtype=torch.bfloat16),
        ):
            yield
