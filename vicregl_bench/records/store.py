"""A folder of records: written atomically, read strictly."""

import json
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
    """Write a record into a folder and return its path; one of the same name is replaced whole."""
    path = folder / record.file_name
    write_file(path, (record.model_dump_json(indent=2) + "\n").encode())
    return path


def read_record(path: Path) -> Record:
    """Read one record.

    Raises:
        RecordError: no such file, half-written, or of another schema.
    """
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise RecordError(f"cannot read record {path}: {reason}") from error
    try:
        tree = json.loads(text)
    except json.JSONDecodeError as error:
        raise RecordError(
            f"record {path} is damaged or half-written (line {error.lineno}); "
            "move it away and run its task again"
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


def read_records(folder: Path) -> list[Record]:
    """Read every record of a folder (not of its sub-folders), in order of file name.

    Raises:
        RecordError: no such folder, or one of the files cannot be read.
    """
    if not folder.is_dir():
        raise RecordError(f"no folder of records at {folder}; `vicregl-bench run` makes one")
    return [read_record(path) for path in sorted(folder.glob("*.json"))]


def find_record(folder: Path, key: str) -> tuple[Path, Record] | None:
    """Find the record of a key by its file name, or None.

    Raises:
        RecordError: the file is there and cannot be read.
    """
    for path in sorted(folder.glob(f"*-{key[:12]}.json")):
        record = read_record(path)
        if record.key == key:
            return path, record
    return None
