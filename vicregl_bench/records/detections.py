"""What a run of detection keeps of its predictions: boxes in some val pictures, beside its record.

One compressed `.npz`: `kind`, `images` (n,), `classes`, and for picture i `size_i`, `truth_boxes_i`
and so on, as `KeptDetections` has them. Masks are left out.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vicregl_bench.errors import RecordError
from vicregl_bench.records.predictions import KeptPicture, load_kept, save_kept

_KIND = "vicregl-bench detections 1"
# arrays of a picture: type in the file, and shape of one object's
_ARRAYS: dict[str, tuple[type[np.generic], tuple[int, ...]]] = {
    "truth_boxes": (np.float32, (4,)),
    "truth_labels": (np.int32, ()),
    "ignored": (np.bool_, ()),
    "boxes": (np.float32, (4,)),
    "scores": (np.float32, ()),
    "labels": (np.int32, ()),
}


@dataclass(frozen=True)
class KeptDetections(KeptPicture):
    """What is in a val picture, and what the best point's first seed found in it.

    Boxes are x1, y1, x2, y2 in pixels of the picture, labels indices into the class names.
    """

    size: tuple[int, int]  # height, width
    truth_boxes: npt.NDArray[Any]  # (n, 4)
    truth_labels: npt.NDArray[Any]  # (n,)
    ignored: npt.NDArray[np.bool_]  # (n,) neither counted nor punished
    boxes: npt.NDArray[Any]  # (m, 4)
    scores: npt.NDArray[Any]  # (m,) 0 to 1
    labels: npt.NDArray[Any]  # (m,)


def save_detections(path: Path, kept: Sequence[KeptDetections], classes: Sequence[str]) -> None:
    """Keep detections in one file, written whole or not at all; numbers are rounded to float32.

    Args:
        path: of the file.
        kept: pictures with what is in them.
        classes: names, by label.

    Raises:
        RecordError: no space, no permission, or another error of the file system.
    """
    arrays: dict[str, Any] = {"classes": np.array(classes, dtype=np.str_)}
    for index, one in enumerate(kept):
        arrays[f"size_{index}"] = np.array(one.size, dtype=np.int32)
        for name, (dtype, _) in _ARRAYS.items():
            arrays[f"{name}_{index}"] = getattr(one, name).astype(dtype)
    save_kept(path, _KIND, kept, arrays)


def load_detections(path: Path) -> tuple[tuple[KeptDetections, ...], tuple[str, ...]]:
    """Read what `save_detections` kept; nothing in the file is unpickled.

    Returns:
        The pictures, and the class names by label.

    Raises:
        RecordError: no such file, truncated, damaged, or of another kind.
    """

    def unpack(arrays: dict[str, Any]) -> tuple[tuple[KeptDetections, ...], tuple[str, ...]]:
        classes = tuple(map(str, arrays["classes"]))
        kept = []
        for index, image in enumerate(arrays["images"]):
            found = {name: arrays[f"{name}_{index}"] for name in _ARRAYS}
            size = arrays[f"size_{index}"]
            problem = _problem(found, size, len(classes))
            if problem:
                raise RecordError(f"the detections {path} of {image} {problem}")
            kept.append(KeptDetections(str(image), (int(size[0]), int(size[1])), **found))
        return tuple(kept), classes

    return load_kept(path, _KIND, unpack)


def _problem(found: dict[str, Any], size: Any, classes: int) -> str | None:
    """What makes a picture's arrays impossible, or None."""
    for names in (("truth_boxes", "truth_labels", "ignored"), ("boxes", "scores", "labels")):
        for name in names:
            dtype, shape = _ARRAYS[name]
            if found[name].dtype != dtype:
                return f"have {name} of the type {found[name].dtype}"
            if found[name].shape != (*found[names[0]].shape[:1], *shape):
                return f"have {name} that do not fit"
    for name in ("truth_labels", "labels"):
        if not ((found[name] >= 0) & (found[name] < classes)).all():
            return f"have {name} of no class"
    if not all(np.isfinite(found[name]).all() for name in ("truth_boxes", "boxes", "scores")):
        return "are not finite"
    if size.shape != (2,) or size.dtype != np.int32 or size.min() < 1:
        return "have no size of the picture"
    return None
