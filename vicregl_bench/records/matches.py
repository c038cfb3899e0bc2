"""What a run of correspondence keeps: two views of some val pictures, and their best matches.

One compressed `.npz`: `kind`, `images` (n,), and for picture i `views_i_0` and `views_i_1` (bytes
of JPEG files, for drawing alone), `grid_i`, `cells_i`, `similarity_i` and `scores_i`.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from vicregl_bench.errors import RecordError
from vicregl_bench.records.predictions import KeptPicture, load_kept, save_kept

BEST = 15
"""Matches kept of a picture: as many as global-local self-distillation draws (appendix D)."""

_KIND = "vicregl-bench matches 1"
_QUALITY = 92  # of the JPEG files


@dataclass(frozen=True)
class KeptMatches(KeptPicture):
    """The first pair of views of a val picture, in the first seed's draw."""

    views: npt.NDArray[np.uint8]  # (2, side, side, 3) RGB
    grid: tuple[int, int]  # rows and columns of the maps
    cells: npt.NDArray[np.int32]  # (n, 3): of the second view, found in the first, true; row by row
    similarity: npt.NDArray[np.float32]  # (n,) cosine, falling
    accuracy: float  # percent of all cells of the pair matched right
    error: float  # mean distance error of all cells, in percent of the view's side

    @property
    def right(self) -> npt.NDArray[np.bool_]:
        """(n,) whether the cell found is the true one."""
        right: npt.NDArray[np.bool_] = self.cells[:, 1] == self.cells[:, 2]
        return right


def save_matches(path: Path, kept: Sequence[KeptMatches]) -> None:
    """Keep matches in one file, written whole or not at all.

    Raises:
        RecordError: no space, no permission, or another error of the file system.
    """
    arrays: dict[str, Any] = {}
    for index, one in enumerate(kept):
        for which, view in enumerate(one.views):
            arrays[f"views_{index}_{which}"] = _encoded(view)
        arrays[f"grid_{index}"] = np.array(one.grid, dtype=np.int32)
        arrays[f"cells_{index}"] = one.cells.astype(np.int32)
        arrays[f"similarity_{index}"] = one.similarity.astype(np.float32)
        arrays[f"scores_{index}"] = np.array([one.accuracy, one.error], dtype=np.float64)
    save_kept(path, _KIND, kept, arrays)


def load_matches(path: Path) -> tuple[KeptMatches, ...]:
    """Read what `save_matches` kept; nothing in the file is unpickled.

    Raises:
        RecordError: no such file, truncated, damaged, or of another kind.
    """

    def unpack(arrays: dict[str, Any]) -> tuple[KeptMatches, ...]:
        kept = []
        for index, image in enumerate(arrays["images"]):
            views = [arrays[f"views_{index}_{which}"] for which in (0, 1)]
            grid, cells, similarity, scores = (
                arrays[f"{name}_{index}"] for name in ("grid", "cells", "similarity", "scores")
            )
            problem = _problem(grid, cells, similarity, scores)
            if problem:
                raise RecordError(f"the matches {path} of {image} {problem}")
            try:
                pixels = np.stack([_decoded(view) for view in views])
            except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
                raise RecordError(f"the matches {path} of {image} have damaged views") from error
            kept.append(
                KeptMatches(
                    image=str(image),
                    views=pixels,
                    grid=(int(grid[0]), int(grid[1])),
                    cells=cells,
                    similarity=similarity,
                    accuracy=float(scores[0]),
                    error=float(scores[1]),
                )
            )
        return tuple(kept)

    return load_kept(path, _KIND, unpack)


def _problem(grid: Any, cells: Any, similarity: Any, scores: Any) -> str | None:
    """What makes a picture's arrays impossible, or None."""
    if grid.shape != (2,) or grid.dtype != np.int32 or grid.min() < 1:
        return "have no grid of cells"
    if cells.shape != (len(similarity), 3) or cells.dtype != np.int32:
        return "have cells that do not fit"
    if not ((cells >= 0) & (cells < int(grid[0]) * int(grid[1]))).all():
        return "have cells outside the grid"
    if similarity.shape != cells.shape[:1] or similarity.dtype != np.float32:
        return "have similarities that do not fit"
    if scores.shape != (2,) or scores.dtype != np.float64:
        return "have no scores"
    if not (np.isfinite(similarity).all() and np.isfinite(scores).all()):
        return "are not finite"
    return None


def _encoded(view: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    buffer = io.BytesIO()
    Image.fromarray(view).save(buffer, format="JPEG", quality=_QUALITY)
    return np.frombuffer(buffer.getvalue(), dtype=np.uint8)


def _decoded(data: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    with Image.open(io.BytesIO(data.tobytes()), formats=["JPEG"]) as view:
        return np.asarray(view.convert("RGB"))
