"""What a run keeps of its predictions: label maps of some val pictures, beside its record.

One compressed `.npz`: `kind`, `images` (n,), and for picture i `truth_i` and `labels_i`, (H, W)
uint8 both.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from vicregl_bench.errors import RecordError
from vicregl_bench.records.arrays import read_arrays, write_arrays

LabelMap = npt.NDArray[np.uint8]
T = TypeVar("T")

_ADVICE = "run its task again with --force, which keeps them anew"

_KIND = "vicregl-bench predictions 1"


@dataclass(frozen=True)
class KeptPicture:
    """A val picture that something is kept of."""

    image: str  # path of the picture, relative to the data root where it lies below it

    @property
    def name(self) -> str:
        """Name of the picture."""
        return picture_name(self.image)


@dataclass(frozen=True)
class KeptPrediction(KeptPicture):
    """A val picture's ground truth, and the prediction of the best point's first seed."""

    truth: LabelMap  # (H, W), 255 for ignored
    labels: LabelMap  # (H, W)


def picture_name(image: str | Path) -> str:
    """Name of a picture: its file's, without the ending (and Cityscapes' `_leftImg8bit`)."""
    return Path(image).stem.removesuffix("_leftImg8bit")


def predictions_path(record: Path) -> Path:
    """Where the predictions of a record's file are kept: beside it, under its stem."""
    return record.with_suffix(".predictions.npz")


def image_below(image: Path, root: Path) -> str:
    """Path of a picture as it is kept: relative to the data root where it lies below it."""
    return image.relative_to(root).as_posix() if image.is_relative_to(root) else str(image)


def save_predictions(path: Path, kept: Sequence[KeptPrediction]) -> None:
    """Keep predictions in one file, written whole or not at all.

    Raises:
        RecordError: no space, no permission, or another error of the file system.
    """
    arrays: dict[str, Any] = {}
    for index, one in enumerate(kept):
        arrays[f"truth_{index}"] = one.truth.astype(np.uint8)
        arrays[f"labels_{index}"] = one.labels.astype(np.uint8)
    save_kept(path, _KIND, kept, arrays)


def load_predictions(path: Path) -> tuple[KeptPrediction, ...]:
    """Read what `save_predictions` kept; nothing in the file is unpickled.

    Raises:
        RecordError: no such file, truncated, damaged, or of another kind.
    """
    kept = load_kept(
        path,
        _KIND,
        lambda arrays: tuple(
            KeptPrediction(str(image), arrays[f"truth_{index}"], arrays[f"labels_{index}"])
            for index, image in enumerate(arrays["images"])
        ),
    )
    for one in kept:
        if one.truth.shape != one.labels.shape or one.truth.ndim != 2:
            raise RecordError(f"the predictions {path} of {one.image} have no one size; {_ADVICE}")
        if one.truth.dtype != np.uint8 or one.labels.dtype != np.uint8:
            raise RecordError(f"the predictions {path} of {one.image} are no labels; {_ADVICE}")
    return kept


def save_kept(
    path: Path, kind: str, kept: Sequence[KeptPicture], arrays: Mapping[str, Any]
) -> None:
    """Write arrays of some pictures to one file, whole or not at all.

    Args:
        path: of the file.
        kind: what the arrays are and in which version, for `load_kept`.
        kept: the pictures, whose paths go with the arrays as `images`.
        arrays: of them.

    Raises:
        RecordError: no space, no permission, or another error of the file system.
    """
    images = np.array([one.image for one in kept], dtype=np.str_)
    write_arrays(path, {"kind": np.array(kind), "images": images, **arrays})


def load_kept(path: Path, kind: str, unpack: Callable[[dict[str, Any]], T]) -> T:
    """Read what `save_kept` wrote; nothing in the file is unpickled.

    Args:
        path: of the file.
        kind: as it was written.
        unpack: makes the result of all arrays; a KeyError is a file that lacks some.

    Raises:
        RecordError: no such file, truncated, damaged, or of another kind.
    """
    try:
        arrays = read_arrays(path)
        if str(arrays.get("kind")) != kind:
            raise RecordError(f"{path} holds no predictions of a run")
        return unpack(arrays)
    except FileNotFoundError as error:
        raise RecordError(f"no predictions at {path}: {error.strerror}; {_ADVICE}") from error
    except KeyError as error:
        raise RecordError(f"{path} holds not all predictions that it lists; {_ADVICE}") from error
    except RecordError as error:
        raise RecordError(f"{error}; {_ADVICE}") from error
