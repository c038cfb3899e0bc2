"""Arrays beside records, in one compressed file that is written whole and distrusted in reading."""

import io
import struct
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from vicregl_bench.errors import RecordError
from vicregl_bench.records.store import write_file

# What numpy and zipfile raise on files that are cut short, damaged or of another kind.
_DAMAGE = (
    ValueError,
    KeyError,
    EOFError,
    RuntimeError,
    NotImplementedError,
    OSError,
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
)


def write_arrays(path: Path, arrays: Mapping[str, Any]) -> None:
    """Write arrays as `.npz`, whole or not at all.

    Raises:
        RecordError: no space, no permission, or another error of the file system.
    """
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    write_file(path, buffer.getvalue())


def read_arrays(path: Path) -> dict[str, Any]:
    """Read a whole `.npz`; pickled objects are refused.

    Raises:
        FileNotFoundError: no such file.
        RecordError: it is cut short, damaged or of another kind.
    """
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except FileNotFoundError:
        raise
    except (*_DAMAGE, AttributeError, TypeError) as error:
        raise RecordError(f"{path} is damaged, half-written or no file of arrays") from error
