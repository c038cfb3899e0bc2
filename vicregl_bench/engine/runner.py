"""mmengine's Runner on a chosen device, off stdout."""

import logging
from typing import Any

import torch
from mmengine.runner import Runner


class DeviceRunner(Runner):  # type: ignore[misc]
    """mmengine's Runner on the device it is told; its log file has everything, stderr errors."""

    def __init__(self, device: torch.device, **kwargs: Any) -> None:
        self._device = device
        super().__init__(**kwargs)

    def build_logger(self, *args: Any, **kwargs: Any) -> Any:
        """The logger, with its terminal handlers down to errors."""
        logger = super().build_logger(*args, **kwargs)
        for handler in logger.handlers:
            if not isinstance(handler, logging.FileHandler):
                handler.setLevel(logging.ERROR)
        return logger

    def wrap_model(self, model_wrapper_cfg: Any, model: Any) -> Any:
        """Move the model to the device (mmengine would take CUDA wherever there is one)."""
        return model.to(self._device)
