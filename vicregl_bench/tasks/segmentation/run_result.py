"""What one run of a fine-tuned task leaves for the record, in one file."""

import io
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vicregl_bench.errors import RecordError
from vicregl_bench.records.store import write_file
from vicregl_bench.tasks.segmentation.metric import PictureAreas
from vicregl_bench.tasks.segmentation.training import Scores

_FIELDS = ("names", "intersect", "predicted", "labelled")


@dataclass(frozen=True)
class RunResult:
    """One learning rate and seed.

    Attributes:
        diverged_at: iteration at which the loss stopped being finite, -1 where it never did.
        scores: of one head.
    """

    diverged_at: int
    scores: Scores


def save_result(path: Path, result: RunResult) -> None:
    """Write a result whole or not at all.

    Raises:
        RecordError: no space or no permission.
    """
    arrays: dict[str, Any] = {"diverged_at": np.array(result.diverged_at)}
    for name, areas in (("val", result.scores.areas), ("held", result.scores.held)):
        if areas is not None:
            arrays |= {f"{name}/{field}": np.asarray(getattr(areas, field)) for field in _FIELDS}
    kept = result.scores.kept
    arrays["kept"] = np.array(list(kept), dtype=np.str_)
    arrays |= {f"kept/{index}": labels for index, labels in enumerate(kept.values())}
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    write_file(path, buffer.getvalue())


def load_result(path: Path) -> RunResult:
    """Read a result.

    Raises:
        RecordError: the file is truncated or no result.
    """
    try:
        with np.load(path) as arrays:
            return RunResult(
                int(arrays["diverged_at"]),
                Scores(
                    _areas(arrays, "val"),
                    _areas(arrays, "held"),
                    {
                        str(name): arrays[f"kept/{index}"]
                        for index, name in enumerate(arrays["kept"])
                    },
                ),
            )
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise RecordError(f"{path} is damaged or no result of a run") from error


def _areas(arrays: Any, name: str) -> PictureAreas | None:
    if f"{name}/names" not in arrays:
        return None
    names, *counts = (arrays[f"{name}/{field}"] for field in _FIELDS)
    return PictureAreas(tuple(map(str, names)), *counts)
