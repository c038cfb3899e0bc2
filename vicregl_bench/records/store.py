"""A folder of records: written atomically, read strictly."""

import contextlib
import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from pydantic import ValidationError

from vicregl_bench.atomic import write_atomic
from vicregl_bench.errors import RecordError
from vicregl_bench.records.migrate import MIGRATIONS, migrate
from vicregl_bench.records.schema import SCHEMA_VERSION, Record


def write_file(path: Path, content: bytes) -> None:
    """Write a file of the folder of records, whole or not at all.

    Raises:
        RecordError: no space, no permission, or another error of the file system.
    """
    try:
        write_atomic(path, content)
    except OSError as error:
        raise RecordError(
            f"cannot write {path}: {error.strerror}; free some space or choose another --out"
        ) from error


def write_record(folder: Path, record: Record) -> Path:
    """Write a record into a folder and return its path; one of the same name is replaced whole.

    A checkpoint's file may be renamed between two runs of one key. Once the new record is whole,
    those of the key under other names are removed, each with the files beside it that bear its own
    name; but an interrupted record removes none that is finished.

    Raises:
        RecordError: no space, no permission, or another error of the file system.
    """
    path = folder / record.file_name
    write_file(path, (record.model_dump_json(indent=2) + "\n").encode())
    # what cannot be removed does no harm: `find_record` prefers the one just written
    with contextlib.suppress(OSError, RecordError):
        for other, old in _records_of(folder, record.key):
            less = record.status == "interrupted" and old.status != "interrupted"
            if not less and not other.samefile(path):
                _remove(other, old)
    return path


def _remove(path: Path, record: Record) -> None:
    """Remove a record, and the files beside it that are its own."""
    path.unlink(missing_ok=True)
    for name in (record.pictures_file, record.predictions_file):
        if name is not None and Path(name).name == name and name.startswith(f"{path.stem}."):
            (path.parent / name).unlink(missing_ok=True)


def read_record(path: Path) -> Record:
    """Read one record.

    Raises:
        RecordError: no such file, half-written, of another schema, or with a number that no score
            can be.
    """
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise RecordError(f"cannot read record {path}: {reason}") from error
    try:
        tree = json.loads(text)
    except (ValueError, RecursionError) as error:
        where = f" (line {error.lineno})" if isinstance(error, json.JSONDecodeError) else ""
        raise RecordError(
            f"record {path} is damaged or half-written{where}; move it away and run its task again"
        ) from error
    version = tree.get("schema_version") if isinstance(tree, dict) else None
    if version not in (SCHEMA_VERSION, *MIGRATIONS):
        raise RecordError(
            f"{path} is no record that this version reads (schema_version {version!r}, not "
            f"{SCHEMA_VERSION})"
        )
    try:
        return Record.model_validate(migrate(tree))
    except (KeyError, TypeError, ZeroDivisionError) as error:
        raise RecordError(
            f"record {path} is not valid: it is not of schema_version {version} ({error!r})"
        ) from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise RecordError(f"record {path} is not valid at {where}: {first['msg']}") from error


def read_records(folder: Path, warn: Callable[[str], None] | None = None) -> list[Record]:
    """Read every record of a folder (not of its sub-folders), in order of file name.

    Args:
        folder: of records.
        warn: told of the files that cannot be read, which are left out; None: the first one stops.

    Raises:
        RecordError: no such folder, or, without `warn`, one of the files cannot be read.
    """
    leave_out = None if warn is None else (lambda why: warn(f"left out: {why}"))
    return [record for _, record in read_files(record_files(folder), leave_out)]


def record_files(folder: Path) -> list[Path]:
    """The files of records in a folder (not in its sub-folders), in order of file name.

    Raises:
        RecordError: no such folder.
    """
    if not folder.is_dir():
        but = " (it is a file)" if folder.exists() else ""
        raise RecordError(f"no folder of records at {folder}{but}; `vicregl-bench run` makes one")
    return sorted(folder.glob("*.json"))


def read_files(
    paths: Iterable[Path], leave_out: Callable[[str], None] | None
) -> Iterator[tuple[Path, Record]]:
    """Read files of records, in their order.

    Args:
        paths: of the files.
        leave_out: told why a file cannot be read, which is left out; None: the first one stops.

    Raises:
        RecordError: without `leave_out`, one of the files cannot be read.
    """
    for path in paths:
        try:
            yield path, read_record(path)
        except RecordError as error:
            if leave_out is None:
                raise
            leave_out(str(error))


def find_record(folder: Path, key: str) -> tuple[Path, Record] | None:
    """Find the record of a key by its file name, or None.

    Of several (under other names of the checkpoint) one that is finished goes before an interrupted
    one, and then the newest.

    Raises:
        RecordError: the file is there and cannot be read.
    """
    return max(
        _records_of(folder, key),
        key=lambda found: (found[1].status != "interrupted", found[1].created),
        default=None,
    )


def _records_of(folder: Path, key: str) -> Iterator[tuple[Path, Record]]:
    for path in sorted(folder.glob(f"*-{key[:12]}.json")):
        try:
            record = read_record(path)
        except RecordError:
            if path.exists():
                raise
            continue  # another process has just removed it for its own
        if record.key == key:
            yield path, record
