"""Places that a command writes to in the end, looked at before hours are spent."""

import os
from pathlib import Path

from vicregl_bench.errors import ConfigError


def require_folder(option: str, path: Path) -> None:
    """Stop where no folder is or can be made, or nothing can be written in it.

    Raises:
        ConfigError: a file stands there, or above it, or the folder may not be written.
    """
    there = next((one for one in (path, *path.absolute().parents) if one.exists()), None)
    if there is not None and not there.is_dir():
        raise ConfigError(f"{option} {path}: {there} is a file; name a folder")
    if there is not None and not os.access(there, os.W_OK | os.X_OK):
        raise ConfigError(f"{option} {path}: cannot write in {there}; name another folder")


def require_file(option: str, path: Path) -> None:
    """Stop where no file can be written.

    Raises:
        ConfigError: it is a folder, a file stands above it, or its folder may not be written.
    """
    if path.is_dir():
        raise ConfigError(f"{option} {path} is a folder; name a file in it")
    require_folder(option, path.parent)
