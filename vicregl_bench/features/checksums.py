"""The checksums of the files in a folder: what is stored counts only as it was written."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock

from vicregl_bench.atomic import write_atomic
from vicregl_bench.errors import RecordError

_INDEX = "index.json"


class Checksums:
    """The files of one identity in a folder of their own, and an index of their sha256.

    Args:
        folder: of the files; made where there is none.
        identity: all that decides them, as JSON values; files of another count for nothing.
        warn: told of what does not count.

    Attributes:
        verified: names of files that were held against their checksum, or written here.
    """

    def __init__(
        self, folder: Path, identity: Mapping[str, Any], warn: Callable[[str], None]
    ) -> None:
        self.folder, self.identity, self.warn = folder, dict(identity), warn
        self.verified: set[str] = set()
        self._warned: set[Path] = set()

    def missing(self, names: Sequence[str]) -> list[str]:
        """Those of the names whose files are not there or are not what was written."""
        checksums = self._read()
        for name in set(names) - self.verified:
            if self._sound(self.folder / name, checksums):
                self.verified.add(name)
        return [name for name in names if name not in self.verified]

    def add(self, files: Mapping[str, bytes]) -> None:
        """Write files, then their checksums among those that other processes wrote.

        Raises:
            RecordError: as the file system says.
        """
        try:
            for name, content in files.items():
                write_atomic(self.folder / name, content)
            with FileLock(self.folder / "index.lock"):
                own = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
                index = {"identity": self.identity, "shards": self._read() | own}
                write_atomic(self.folder / _INDEX, json.dumps(index, indent=1).encode())
        except OSError as error:
            raise unwritable(self.folder, error) from error
        self.verified.update(files)

    def _read(self) -> dict[str, str]:
        """Checksums by name; none, and `warn` is told once, where the file is damaged."""
        path = self.folder / _INDEX
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            if content["identity"] != self.identity:
                raise ValueError("of others")
            return {str(name): str(value) for name, value in content["shards"].items()}
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            self._warn(path, f"{path} is damaged: what is stored beside it is computed anew")
            return {}

    def _sound(self, path: Path, checksums: Mapping[str, str]) -> bool:
        expected = checksums.get(path.name)
        if expected is None:
            return False
        try:
            with path.open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError:
            found = ""
        if found != expected:
            text = f"the stored file {path} is missing or damaged: it is computed anew"
            self._warn(path, text)
        return found == expected

    def _warn(self, path: Path, text: str) -> None:
        if path not in self._warned:
            self._warned.add(path)
            self.warn(text)


def unwritable(folder: Path, error: OSError) -> RecordError:
    """What to say where features, or what is computed of them, cannot be stored."""
    return RecordError(
        f"cannot write into {folder}: {error.strerror}; free some space or choose "
        "another folder, then run the same again: what is whole is kept"
    )
