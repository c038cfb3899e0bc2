"""Vectors in files of half precision, and slices of them without loading all."""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vicregl_bench.errors import RecordError

# Largest element of a stored row: in [2**14, 2**15), float16 ends at 65504.
_TOP = 15
_LEAST = -126  # 2.0**-126 is float32's least normal number


def encode(vectors: Tensor) -> bytes:
    """An `.npy` file of vectors (N, D) in half precision.

    Each row is scaled by a power of two first, kept beside it, so that nothing overflows: features
    of random weights may be of any size. Each element x of a row comes back with an error of at
    most 2**-11 |x| + 2**-39 max|row| (rows above 1e-33; float16 has 11 bits, and 2**-25 is half
    its least number). All have to be finite.
    """
    exact: npt.NDArray[np.float32] = vectors.float().numpy()
    largest = np.abs(exact).max(axis=1, initial=0)
    exponents = np.where(largest > 0, np.frexp(largest)[1] - _TOP, 0).clip(min=_LEAST)
    rows = np.empty(len(exact), dtype=_row(exact.shape[1]))
    rows["exponent"] = exponents
    rows["vector"] = np.ldexp(exact, -exponents[:, None])
    buffer = io.BytesIO()
    np.save(buffer, rows, allow_pickle=False)
    return buffer.getvalue()


def _row(width: int) -> np.dtype[np.void]:
    return np.dtype([("exponent", "<i2"), ("vector", "<f2", (width,))])


class Features:
    """Vectors (N, D) in files of `encode`; `features[a:b]` reads no others from disk.

    Args:
        paths: of the files, in order.
        per_shard: rows in each but the last.
        rows: N.

    Raises:
        RecordError: a file cannot be read.
    """

    def __init__(self, paths: Sequence[Path], per_shard: int, rows: int) -> None:
        self.paths, self.per_shard = tuple(paths), per_shard
        self.shape = (rows, int(self._open(0)["vector"].shape[1]))

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice) -> Tensor:
        """Some vectors in a row, float32.

        Raises:
            ValueError: the slice has a step.
            RecordError: a file went away or broke.
        """
        start, stop, step = rows.indices(len(self))
        if step != 1:
            raise ValueError("features are read in a row: no step")
        vectors = torch.empty(max(0, stop - start), self.shape[1])
        while start < stop:
            shard, first = divmod(start, self.per_shard)
            last = min(self.per_shard, first + stop - start)
            part = self._open(shard)[first:last]
            scale = np.ldexp(np.float32(1), part["exponent"].astype(np.int32))
            target = vectors[len(vectors) - (stop - start) :][: last - first]
            target.copy_(torch.from_numpy(np.array(part["vector"])))
            target.mul_(torch.from_numpy(scale)[:, None])
            start += last - first
        return vectors

    def tensor(self) -> Tensor:
        """All vectors (N, D), float32."""
        return self[:]

    def _open(self, shard: int) -> npt.NDArray[np.void]:
        """One file, mapped for as long as it is looked at: each mapping holds a file handle."""
        path = self.paths[shard]
        try:
            rows: npt.NDArray[np.void] = np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise RecordError(
                f"stored features {path} went away or broke: run the same again"
            ) from error
        return rows
