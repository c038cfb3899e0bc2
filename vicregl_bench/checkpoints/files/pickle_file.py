"""Read plain pickles, e.g. detectron2's `.pkl`, with no more than `stand_ins` in them."""

import mmap
import pickle
from collections.abc import Collection
from pathlib import Path
from typing import BinaryIO, NoReturn

from vicregl_bench.checkpoints.files.pickle_scan import (
    PickleScanError,
    Scan,
    TruncatedPickleError,
    scan_pickle,
)
from vicregl_bench.checkpoints.files.stand_ins import STAND_INS
from vicregl_bench.errors import CheckpointError

TRUST = "pass --trust-pickle if you trust the file's author"
DOWNLOAD = "download or copy the file again"

_NAMES_SHOWN = 40

_OLD_STARTS = (b"(", b"}", b"]", b"c")  # of protocols 0 and 1: a mark, dict, list, global
_OLD_DICTS = (b"(d", b"}q", b"}(")


class _Unpickler(pickle.Unpickler):
    def find_class(self, module_name: str, global_name: str, /) -> object:
        try:
            return STAND_INS[f"{module_name}.{global_name}"]
        except KeyError as error:
            raise pickle.UnpicklingError("the pickle names a foreign global") from error


def starts_pickle(path: Path, head: bytes) -> bool:
    """Whether a file is a pickle, damaged perhaps, told by its start.

    Protocols 0 and 1 have no mark at their start: a file counts as one where its instructions can
    be followed to its end.
    """
    if head.startswith(b"\x80"):
        return True
    if head[:1] not in _OLD_STARTS:
        return False
    try:
        with (
            path.open("rb") as stream,
            mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data,
        ):
            scan_pickle(data)
    except TruncatedPickleError:
        return head[:2] in _OLD_DICTS
    except PickleScanError:
        return False
    return True


def read_pickle(path: Path, *, trust_pickle: bool, start: int = 0) -> object:
    """Unpickle what lies in a file from `start` on, the strings of Python 2 as latin-1.

    Raises:
        CheckpointError: the pickle is truncated or damaged, asks for absurd work, or names foreign
            globals (each is listed) and `trust_pickle` is not set.
    """
    with path.open("rb") as stream:
        if not trust_pickle:
            refuse_foreign(path, scan_file(path, stream, start).names, STAND_INS)
        stream.seek(start)
        unpickler = pickle.Unpickler if trust_pickle else _Unpickler
        try:
            return unpickler(stream, encoding="latin1").load()
        except Exception as error:  # the unpickler meets arbitrary bytes: any type may come out
            refuse_unpickled(path, error, trust_pickle=trust_pickle)


def scan_file(path: Path, stream: BinaryIO, start: int) -> Scan:
    """Scan the pickle that lies in a file from `start` on, see `scan_pickle`.

    Raises:
        CheckpointError: it is truncated or damaged, or asks for absurd work.
    """
    with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
        return scan_data(path, data, start)


def scan_data(path: Path, data: bytes | mmap.mmap, start: int = 0) -> Scan:
    """Scan a pickle, see `scan_pickle`.

    Raises:
        CheckpointError: it is truncated or damaged, or asks for absurd work.
    """
    try:
        return scan_pickle(data, start)
    except TruncatedPickleError as error:
        raise CheckpointError(f"{path}: the file is truncated; {DOWNLOAD}") from error
    except PickleScanError as error:
        raise CheckpointError(f"{path}: not a checkpoint: {error}; {DOWNLOAD}") from error


def refuse_foreign(path: Path, names: Collection[str], known: Collection[str]) -> None:
    """Refuse a pickle that names other globals than the known ones.

    Raises:
        CheckpointError: it does; the foreign ones are listed.
    """
    foreign = sorted(name for name in names if name not in known)
    if foreign:
        shown = ", ".join(name[:100] for name in foreign[:_NAMES_SHOWN])
        if len(foreign) > _NAMES_SHOWN:
            shown += f" and {len(foreign) - _NAMES_SHOWN} more"
        raise CheckpointError(
            f"{path}: refused, the pickle names foreign globals: {shown}; {TRUST}"
        )


def refuse_unpickled(path: Path, error: Exception, *, trust_pickle: bool) -> NoReturn:
    """Turn what an unpickler raised into one line that says what to do.

    Raises:
        CheckpointError: always.
    """
    if trust_pickle and isinstance(error, (ImportError, AttributeError)):
        raise CheckpointError(
            f"{path}: the pickle needs code that is not installed here ({one_line(error)}); "
            "save only the state_dict where that code is"
        ) from error
    if isinstance(error, EOFError) or "truncated" in str(error):
        raise CheckpointError(f"{path}: the file is truncated; {DOWNLOAD}") from error
    raise CheckpointError(
        f"{path}: not a checkpoint: its pickle cannot be read ({one_line(error)}); {DOWNLOAD}"
    ) from error


def one_line(error: Exception) -> str:
    """Return the start of an error's text, in printable characters."""
    first = next(iter(str(error).strip().splitlines()), "") or type(error).__name__
    return "".join(letter if letter.isprintable() else "?" for letter in first[:120])
