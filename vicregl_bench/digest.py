"""What identifies a checkpoint file, or JSON values, without torch."""

import hashlib
import json
from pathlib import Path

from vicregl_bench.errors import CheckpointError


def file_sha256(path: str | Path) -> str:
    """Return the sha256 of the file's bytes, in hex.

    Raises:
        CheckpointError: the file cannot be read.
    """
    try:
        with Path(path).open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror or error}") from error


def json_sha256(value: object) -> str:
    """Return the sha256 of JSON values, in hex; the order of keys does not matter."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
