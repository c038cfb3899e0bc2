"""mmcv's compiled operators on torchvision, where mmcv came without its compiled extension.

mmdetection imports `mmcv.ops`, and that imports `mmcv._ext`. Compiling it takes ten minutes and
fails on current torch; of its operators a detector needs `nms` alone (RoIAlign has
`use_torchvision=True`). Where a compiled extension is present, it is used.
"""

import importlib.util
import sys
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, NoReturn

from torch import Tensor

from vicregl_bench.errors import ConfigError

_NAME = "mmcv._ext"


def nms(bboxes: Tensor, scores: Tensor, iou_threshold: float, offset: int = 0) -> Tensor:
    """Non-maximum suppression by torchvision.

    Args:
        bboxes: (N, 4), x1, y1, x2, y2.
        scores: (N,).
        iou_threshold: overlap above which the lower score goes.
        offset: 1 where a box from x to x is one pixel wide.

    Returns:
        Indices of the boxes kept, by falling score.
    """
    from torchvision import ops

    if offset:
        bboxes = bboxes + bboxes.new_tensor([0, 0, offset, offset])
    kept: Tensor = ops.nms(bboxes, scores, iou_threshold)
    return kept


class _Extension(ModuleType):
    """Has every operator; those that are not here say so when they are called."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)

        def missing(*_: object, **__: object) -> NoReturn:
            raise ConfigError(
                f"mmcv's operator {name} is not compiled here and torchvision has none in its "
                "place; install an mmcv with compiled operators"
            )

        return missing


def install_mmcv_ext() -> bool:
    """Put a module in the place of `mmcv._ext`, for this process, if there is none.

    To be called before anything imports `mmcv.ops`.

    Returns:
        Whether ours is in place; False where mmcv has its own.
    """
    present = sys.modules.get(_NAME)
    if present is not None:
        return isinstance(present, _Extension)
    if importlib.util.find_spec(_NAME) is not None:
        return False
    extension = _Extension(_NAME)
    extension.__spec__ = ModuleSpec(_NAME, loader=None)
    extension.nms = nms  # type: ignore[attr-defined]
    sys.modules[_NAME] = extension
    return True
