"""Read NumPy's files: `.npz` archives of arrays, and a dict that `np.save` put into an `.npy`."""

import math
import zipfile
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as _format

from vicregl_bench.checkpoints.files.pickle_file import DOWNLOAD, one_line, read_pickle
from vicregl_bench.checkpoints.files.zip_directory import Entry
from vicregl_bench.errors import CheckpointError

MAX_RATIO = 64
"""Weights hardly compress; ten thousand zeros of a BatchNorm among them do, a bomb more."""

MAX_BYTES = 16 << 30
"""Unpacked; the largest backbone, a ViT-g, takes 5 GB in float32."""

npy_format: Any = _format  # its stubs are without types

_MAX_HEADER = 10_000  # characters, NumPy's own limit
_AS_DICT = "save a dict of named arrays, with np.savez or as a state_dict with torch.save"


def read_npy(path: Path, *, trust_pickle: bool) -> object:
    """Return the object, e.g. a dict of arrays, that `np.save` pickled into a file.

    Raises:
        CheckpointError: the file holds a plain array, which names no tensors, or more than one
            object, or its header or its pickle is truncated, damaged or refused.
    """
    with path.open("rb") as stream:
        try:
            dtype = _read_header(stream)[1]
        except Exception as error:  # the header is a Python literal: any type may come out
            raise CheckpointError(
                f"{path}: not a NumPy file that can be read ({one_line(error)}); {DOWNLOAD}"
            ) from error
        start = stream.tell()
    if not dtype.hasobject:
        raise CheckpointError(
            f"{path}: not a checkpoint: holds one array of {dtype}, which names no tensors; "
            f"{_AS_DICT}"
        )
    loaded = read_pickle(path, trust_pickle=trust_pickle, start=start)
    if not isinstance(loaded, np.ndarray) or loaded.size != 1 or not loaded.dtype.hasobject:
        raise CheckpointError(
            f"{path}: not a checkpoint: holds an array of objects, not one dict; {_AS_DICT}"
        )
    return loaded.item()


def is_npz(entries: list[Entry]) -> bool:
    """Whether a zip archive is one of NumPy's."""
    return bool(entries) and all(entry.name.endswith(".npy") for entry in entries)


def read_npz(path: Path, entries: list[Entry]) -> dict[str, np.ndarray[Any, Any]]:
    """Read the arrays of an archive by name, packed ones too; objects are never unpickled.

    Raises:
        CheckpointError: the arrays would take far more memory than the file is large, or one is
            damaged or holds objects.
    """
    claimed = sum(entry.size for entry in entries)
    if claimed > min(MAX_RATIO * path.stat().st_size, MAX_BYTES):
        raise CheckpointError(
            f"{path}: refused, its arrays would take {claimed:,} bytes, more than {MAX_RATIO} "
            f"times the file or than {MAX_BYTES:,}; save them again with np.savez, not compressed"
        )
    for entry in entries:
        if entry.method not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise CheckpointError(
                f"{path}: {entry.name!a}: packed in another way than NumPy's; save the arrays again"
            )
    arrays: dict[str, np.ndarray[Any, Any]] = {}
    with zipfile.ZipFile(path) as archive:
        for entry in entries:
            try:
                with archive.open(entry.name) as stream:
                    _check_array(stream, entry.size)
                    stream.seek(0)
                    arrays[entry.name.removesuffix(".npy")] = npy_format.read_array(
                        stream, allow_pickle=False
                    )
            except Exception as error:  # zlib, zipfile and NumPy: any type may come out
                raise CheckpointError(
                    f"{path}: {entry.name!a} cannot be read ({one_line(error)}); {DOWNLOAD}"
                ) from error
    return arrays


def _check_array(stream: IO[bytes], size: int) -> None:
    """Check that an array takes the bytes that its entry has.

    Raises:
        ValueError: it takes others, or holds objects.
    """
    shape, dtype = _read_header(stream)
    if dtype.hasobject:
        raise ValueError("it holds Python objects, not numbers")
    count = math.prod(shape)
    if stream.tell() + count * dtype.itemsize != size or count > size:
        raise ValueError("its shape does not fit its bytes")


def _read_header(stream: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Read shape and dtype.

    Raises:
        ValueError: among others; the header is not what `np.save` writes.
    """
    version = npy_format.read_magic(stream)
    start = stream.tell()
    width = 2 if version == (1, 0) else 4
    length = stream.read(width)
    if len(length) < width:
        raise ValueError("the file is truncated")
    if int.from_bytes(length, "little") > _MAX_HEADER:
        raise ValueError("its header is too long")
    stream.seek(start)
    read = npy_format.read_array_header_1_0 if width == 2 else npy_format.read_array_header_2_0
    shape, _, dtype = read(stream, max_header_size=_MAX_HEADER)
    if any(side < 0 for side in shape):
        raise ValueError("its shape is negative")
    return shape, dtype
