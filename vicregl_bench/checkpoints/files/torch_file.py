"""Read files of `torch.save`: the zip format, and the one before torch 1.6.

Two steps: the pickle is rehearsed (`torch_rehearsal`), which finds every size that does not fit the
file, and then torch's own safe loader reads it, with no other globals allowed than `stand_ins`.
"""

import io
import mmap
import re
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any, NoReturn

import torch

from vicregl_bench.checkpoints.files.pickle_file import (
    DOWNLOAD,
    TRUST,
    one_line,
    refuse_foreign,
    refuse_unpickled,
    scan_data,
)
from vicregl_bench.checkpoints.files.stand_ins import STAND_INS
from vicregl_bench.checkpoints.files.torch_rehearsal import KNOWN, Rehearsal, Storage, claimed_bytes
from vicregl_bench.checkpoints.files.zip_directory import Entry
from vicregl_bench.errors import CheckpointError

_LEGACY_MAGIC = b"\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19."
_LEGACY_PICKLES = 5
"""Magic number, version, system, the object, the storages' keys."""

_LENGTH = 8  # bytes before each storage of the old format: its number of elements

_FOREIGN = re.compile(r"Unsupported global: GLOBAL (\S+)|unsupported GLOBAL (\S+) whose module")


def is_legacy(head: bytes) -> bool:
    """Whether a file starts with the pickled magic number of torch before 1.6."""
    return head.startswith(b"\x80") and _LEGACY_MAGIC in head[:32]


def read_zip(path: Path, entries: list[Entry], *, trust_pickle: bool) -> object:
    """Read a zip archive of `torch.save`; its tensors are mapped, not read.

    Raises:
        CheckpointError: `torch.save` did not write the archive, its sizes do not fit, its pickle is
            damaged, or it names foreign globals and `trust_pickle` is not set.
    """
    names = [entry.name for entry in entries]
    if any(name.endswith("/constants.pkl") for name in names):
        raise CheckpointError(
            f"{path}: is a TorchScript program, not a checkpoint; save its state_dict() instead"
        )
    folder = names[0].partition("/")[0] if names else ""
    sizes = {entry.name.removeprefix(f"{folder}/"): entry.size for entry in entries}
    if "data.pkl" not in sizes or not all(name.startswith(f"{folder}/") for name in names):
        raise CheckpointError(f"{path}: is a zip archive, but torch.save did not write it")
    if any(entry.method != zipfile.ZIP_STORED for entry in entries):
        raise CheckpointError(
            f"{path}: refused, its entries are compressed, which torch.save never does; load it "
            "where it came from and torch.save it again"
        )
    if len({name.lower() for name in names}) < len(names):  # torch looks names up in any case
        raise CheckpointError(f"{path}: refused, two of its entries have the same name")
    if not trust_pickle:
        _rehearse_zip(path, f"{folder}/data.pkl", sizes)
    return _load(path, trust_pickle=trust_pickle, is_zip=True)


def read_legacy(path: Path, *, trust_pickle: bool) -> object:
    """Read a file in torch's format before 1.6.

    Raises:
        CheckpointError: the file is truncated or damaged, or names foreign globals and
            `trust_pickle` is not set.
    """
    if not trust_pickle:
        with (
            path.open("rb") as stream,
            mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data,
        ):
            _rehearse_legacy(path, data)
    return _load(path, trust_pickle=trust_pickle, is_zip=False)


def _rehearse_zip(path: Path, name: str, sizes: dict[str, int]) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            data = archive.read(name)
    except Exception as error:  # zipfile meets arbitrary bytes: any type may come out
        raise CheckpointError(
            f"{path}: the file is truncated or damaged ({one_line(error)}); {DOWNLOAD}"
        ) from error
    refuse_foreign(path, scan_data(path, data).names, KNOWN)

    def find(pid: tuple[Any, ...]) -> Storage:
        kind, key = pid[1:3]
        size = claimed_bytes(pid)
        if size > sizes.get(f"data/{key}", -1):
            raise CheckpointError(
                f"{path}: damaged, a storage of {size:,} bytes has {sizes.get(f'data/{key}', 0):,} "
                f"in the file; {DOWNLOAD}"
            )
        return Storage(key, size, kind.dtype)

    _rehearse(path, io.BytesIO(data), find)


def _rehearse_legacy(path: Path, data: mmap.mmap) -> None:
    starts, names = [0], set[str]()
    for _ in range(_LEGACY_PICKLES):
        scan = scan_data(path, data, starts[-1])
        starts.append(scan.end)
        names |= scan.names
    refuse_foreign(path, names, KNOWN)
    legacy = _LegacyStorages(path)
    pickles = [io.BytesIO(data[start:end]) for start, end in pairwise(starts)]
    *before, content, keys = pickles
    for stream in before:
        _rehearse(path, stream, legacy.find)
    if legacy.roots:
        raise CheckpointError(f"{path}: damaged, a storage is named too early; {DOWNLOAD}")
    _rehearse(path, content, legacy.find)
    legacy.check(data, starts[-1], _rehearse(path, keys, legacy.find))


class _LegacyStorages:
    """The storages that a pickle of the old format claims; their bytes follow the pickles."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.roots: dict[str, tuple[int, Storage]] = {}  # with the number of elements
        self.views: dict[str, Storage] = {}

    def find(self, pid: tuple[Any, ...]) -> Storage:
        """Return the storage, or the view of one, that a persistent id means."""
        _, kind, key, _, count, view = pid
        size = claimed_bytes(pid)
        _, root = self.roots.setdefault(key, (count, Storage(key, size, kind.dtype)))
        if root.nbytes != size or key in self.views:
            raise CheckpointError(f"{self.path}: damaged, a storage has two sizes; {DOWNLOAD}")
        if view is None:
            return Storage(key, size, kind.dtype)
        view_key, start, length = view
        part = Storage(view_key, length * kind.dtype.itemsize, kind.dtype)
        if not 0 <= start <= start + length <= count or view_key in self.roots:
            raise CheckpointError(
                f"{self.path}: damaged, a view lies outside its storage; {DOWNLOAD}"
            )
        if self.views.setdefault(view_key, part) != part:
            raise CheckpointError(f"{self.path}: damaged, a view has two sizes; {DOWNLOAD}")
        return part

    def check(self, data: mmap.mmap, position: int, keys: object) -> None:
        """Check that the storages from `position` on are those that the pickle claims."""
        path = self.path
        names = keys if isinstance(keys, list) else []
        if not all(isinstance(key, str) for key in names) or sorted(names) != sorted(self.roots):
            raise CheckpointError(f"{path}: damaged, its list of storages is another; {DOWNLOAD}")
        for key in names:
            count, storage = self.roots[key]
            stored = data[position : position + _LENGTH]
            position += _LENGTH + storage.nbytes
            if len(stored) == _LENGTH and int.from_bytes(stored, "little") != count:
                raise CheckpointError(f"{path}: damaged, a storage has two sizes; {DOWNLOAD}")
            if position > len(data):
                raise CheckpointError(
                    f"{path}: the file is truncated, its storages take {position:,} bytes or more "
                    f"of {len(data):,}; {DOWNLOAD}"
                )


def _rehearse(path: Path, stream: io.BytesIO, find: Any) -> object:
    try:
        return Rehearsal(stream, find).load()
    except CheckpointError:
        raise
    except Exception as error:  # the unpickler meets arbitrary bytes: any type may come out
        refuse_unpickled(path, error, trust_pickle=False)


def _load(path: Path, *, trust_pickle: bool, is_zip: bool) -> object:
    with warnings.catch_warnings(), _only_ours():
        warnings.filterwarnings("ignore", message="Detected pickle protocol")
        warnings.filterwarnings("ignore", message="Validating sparse tensor invariants")
        try:
            if path.suffix != ".safetensors":
                loaded: object = torch.load(
                    path, map_location="cpu", weights_only=not trust_pickle, mmap=is_zip
                )
            else:  # torch would take the name for the format
                with path.open("rb") as stream:
                    loaded = torch.load(stream, map_location="cpu", weights_only=not trust_pickle)
        except Exception as error:  # the unpickler meets arbitrary bytes: any type may come out
            _refuse(path, error, trust_pickle=trust_pickle)
    return loaded


@contextmanager
def _only_ours() -> Iterator[None]:
    """Allow the stand-ins besides torch's own globals, and nothing that others have allowed."""
    before = torch.serialization.get_safe_globals()
    torch.serialization.clear_safe_globals()
    torch.serialization.add_safe_globals([(value, name) for name, value in STAND_INS.items()])
    try:
        yield
    finally:
        torch.serialization.clear_safe_globals()
        torch.serialization.add_safe_globals(before)


def _refuse(path: Path, error: Exception, *, trust_pickle: bool) -> NoReturn:
    """Turn whatever `torch.load` raised into one line that says what to do."""
    message = str(error)
    if not trust_pickle:
        named = {first or second for first, second in _FOREIGN.findall(message)}
        refuse_foreign(path, named, ())
        if "Unsupported operand" in message:
            raise CheckpointError(
                f"{path}: refused, the pickle uses instructions (protocol 4 or newer) that the "
                f"safe loader does not read; save it again with protocol 2, or {TRUST}"
            ) from error
    if "unexpected EOF" in message:
        raise CheckpointError(f"{path}: the file is truncated; {DOWNLOAD}") from error
    refuse_unpickled(path, error, trust_pickle=trust_pickle)
