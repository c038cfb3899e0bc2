"""Read a checkpoint file without running anything that its author put into it."""

import argparse
import hashlib
import io
import pickle
import pickletools
import re
import tarfile
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, NoReturn

import numpy as np
import torch

from vicregl_bench.errors import CheckpointError

_TRUST = "pass --trust-pickle if you trust the file's author"
_DOWNLOAD = "download or copy the file again"

_FOREIGN = re.compile(r"Unsupported global: GLOBAL (\S+)|unsupported GLOBAL (\S+) whose module")

_LEGACY_PICKLES = 5
"""torch's format before 1.6: magic number, version, system, the object, the storages' keys."""

_TORCH_ALLOWS = frozenset(
    f"{module}.{name}"
    for module, names in {
        "collections": ("OrderedDict", "Counter"),
        "builtins": ("set", "bytearray", "complex"),
        "__builtin__": ("set", "bytearray", "complex"),
        "_codecs": ("encode",),
    }.items()
    for name in names
)
"""What the safe loader takes besides torch's own (torch/_weights_only_unpickler.py)."""

_LOOKS_LIKE: tuple[tuple[bytes, str], ...] = (
    (b"version https://git-lfs", "a Git LFS pointer; fetch the file itself with `git lfs pull`"),
    (b"<", "a web page or XML text; " + _DOWNLOAD),
    (b"\x89PNG", "a PNG picture"),
    (b"\xff\xd8\xff", "a JPEG picture"),
    (b"GIF8", "a GIF picture"),
    (b"\x1f\x8b", "a gzip archive; unpack it first"),
    (b"\x93NUMPY", "a NumPy array"),
    (b"\x89HDF", "an HDF5 file"),
)


def _harmless_globals() -> list[Callable[..., object] | tuple[Callable[..., object], str]]:
    """Return the globals allowed besides torch's own: argparse.Namespace and NumPy values.

    NumPy's are listed under the module names of both NumPy 1 and NumPy 2.
    """
    scalar = np.float64(0).__reduce__()[0]
    reconstruct = np.zeros(1).__reduce__()[0]
    assert callable(scalar) and callable(reconstruct)
    dtypes: set[type] = {type(np.dtype(code)) for code in "?bBhHiIlLqQefdSU"}
    return [
        argparse.Namespace,
        np.ndarray,
        np.dtype,
        *dtypes,
        (scalar, "numpy.core.multiarray.scalar"),
        (scalar, "numpy._core.multiarray.scalar"),
        (reconstruct, "numpy.core.multiarray._reconstruct"),
        (reconstruct, "numpy._core.multiarray._reconstruct"),
    ]


def read_file(path: str | Path, *, trust_pickle: bool = False) -> object:
    """Read a file written by `torch.save`, on the CPU.

    Tensors of the zip format are mapped, not read: they stay valid only while the file is left
    as it is. Nothing in the file is executed unless `trust_pickle` is set: apart from torch's own
    types only `argparse.Namespace` and NumPy scalars, dtypes and arrays are rebuilt.

    Args:
        path: the file.
        trust_pickle: unpickle everything, which runs whatever code the file names.

    Raises:
        CheckpointError: the file does not exist, is a directory, is empty, is truncated, is no
            checkpoint, or names foreign globals (each is listed) and `trust_pickle` is not set.
    """
    path = Path(path)
    head = _head(path)
    if head.startswith(b"PK"):
        _check_zip(path)
    elif not head.startswith(b"\x80"):
        _refuse_kind(path, head)
    allowed = torch.serialization.get_safe_globals()
    ours = [entry for entry in _harmless_globals() if entry not in allowed]
    with warnings.catch_warnings(), torch.serialization.safe_globals(ours):
        warnings.filterwarnings("ignore", message="Detected pickle protocol")
        try:
            loaded: object = torch.load(
                path,
                map_location="cpu",
                weights_only=not trust_pickle,
                mmap=head.startswith(b"PK"),
            )
        except Exception as error:  # the unpickler meets arbitrary bytes: any type may come out
            _refuse(path, error, trust_pickle=trust_pickle, is_zip=head.startswith(b"PK"))
    return loaded


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


def _head(path: Path) -> bytes:
    """Return the first bytes of an existing, non-empty file."""
    if path.is_dir():
        raise CheckpointError(f"{path}: is a directory; give the checkpoint file inside it")
    if not path.exists():
        raise CheckpointError(f"{path}: no such file; check the path of the checkpoint")
    if not path.is_file():
        raise CheckpointError(f"{path}: is not a regular file; give a file of torch.save")
    try:
        with path.open("rb") as stream:
            head = stream.read(64)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror or error}") from error
    if not head:
        raise CheckpointError(f"{path}: the file is empty; {_DOWNLOAD}")
    return head


def _check_zip(path: Path) -> None:
    """Check that a zip file is whole and is an archive of `torch.save`."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError) as error:
        raise CheckpointError(
            f"{path}: the file is truncated or damaged ({error}); {_DOWNLOAD}"
        ) from error
    if any(name.endswith("/constants.pkl") for name in names):
        raise CheckpointError(
            f"{path}: is a TorchScript program, not a checkpoint; save its state_dict() instead"
        )
    if not any(name.endswith("/data.pkl") for name in names):
        raise CheckpointError(f"{path}: is a zip archive, but torch.save did not write it")


def _refuse_kind(path: Path, head: bytes) -> NoReturn:
    """Say what a file is that is neither a zip archive nor a pickle."""
    kind = next((text for magic, text in _LOOKS_LIKE if head.lstrip().startswith(magic)), None)
    if kind is None and head[8:9] == b"{" and int.from_bytes(head[:8], "little") < 2**32:
        kind = "a safetensors file, which is not read yet; save its tensors with torch.save"
    if kind is None and tarfile.is_tarfile(path):
        kind = "a tar archive; unpack it first, or save it again with a current torch"
    if kind is None:
        kind = "text" if _is_text(head) else "data of an unknown kind"
    raise CheckpointError(f"{path}: not a checkpoint of torch.save: it looks like {kind}")


def _is_text(head: bytes) -> bool:
    try:
        text = head.decode("utf-8")
    except UnicodeDecodeError as error:
        text = head[: error.start].decode("utf-8") if error.start > len(head) - 4 else "\0"
    return all(letter.isprintable() or letter.isspace() for letter in text)


def _refuse(path: Path, error: Exception, *, trust_pickle: bool, is_zip: bool) -> NoReturn:
    """Turn whatever `torch.load` raised into one line that says what to do."""
    message = str(error)
    if trust_pickle and isinstance(error, (ImportError, AttributeError)):
        raise CheckpointError(
            f"{path}: the pickle needs code that is not installed here ({message}); "
            "save only the state_dict where that code is"
        ) from error
    if not trust_pickle and isinstance(error, pickle.UnpicklingError):
        foreign = _foreign_globals(path, message, is_zip=is_zip)
        if foreign:
            raise CheckpointError(
                f"{path}: refused, the pickle names foreign globals: {', '.join(foreign)}; {_TRUST}"
            ) from error
        if "Unsupported operand" in message:
            raise CheckpointError(
                f"{path}: refused, the pickle uses instructions (protocol 4 or newer) that the "
                f"safe loader does not read; save it again with protocol 2, or {_TRUST}"
            ) from error
    if isinstance(error, EOFError) or "unexpected EOF" in message or not _ends(path, is_zip):
        raise CheckpointError(f"{path}: the file is truncated; {_DOWNLOAD}") from error
    reason = message.strip().splitlines()[0][:120] if message.strip() else type(error).__name__
    raise CheckpointError(
        f"{path}: not a checkpoint that torch.load can read ({reason}); {_DOWNLOAD}"
    ) from error


def _ends(path: Path, is_zip: bool) -> bool:
    """Say whether the first pickle of a file that is no zip archive comes to its end."""
    if is_zip:
        return True
    try:
        with path.open("rb") as stream:
            for _ in pickletools.genops(stream):
                pass
    except ValueError as error:
        return not re.search(r"not enough data|exhausted before|expected \d+ bytes", str(error))
    except (IndexError, OSError, UnicodeDecodeError):
        return True
    return True


def _foreign_globals(path: Path, message: str, *, is_zip: bool) -> list[str]:
    """Name the globals that the safe loader refuses, sorted, without loading any of them.

    torch's message names the first, and a zip archive is asked for all of them. Older files and
    pickles of protocol 4 and newer, which torch cannot scan, are scanned here.
    """
    named = {first or second for first, second in _FOREIGN.findall(message)}
    if is_zip:
        try:
            return sorted(
                named | set(torch.serialization.get_unsafe_globals_in_checkpoint(path))
                if named
                else _scan_zip(path)
            )
        except Exception:  # a scan that fails adds no name; the file is refused all the same
            return sorted(named | _scan_zip(path))
    with path.open("rb") as stream:
        scanned = _scan(stream)
    return sorted(
        scanned | {name for name in named if not any(s.endswith("." + name) for s in scanned)}
    )


def _scan_zip(path: Path) -> set[str]:
    with zipfile.ZipFile(path) as archive:
        name = next(name for name in archive.namelist() if name.endswith("/data.pkl"))
        return _scan(io.BytesIO(archive.read(name)))


def _scan(stream: BinaryIO) -> set[str]:
    """Collect the globals of the pickles at the head of a stream, harmless ones left out.

    torch's own count as harmless here: its message names those that it refuses.
    """
    found: set[str] = set()
    for _ in range(_LEGACY_PICKLES):
        try:
            _scan_pickle(stream, found)
        except (ValueError, IndexError):
            break  # the end of the file, or of what is a pickle in it
    known = {
        entry[1] if isinstance(entry, tuple) else f"{entry.__module__}.{entry.__qualname__}"
        for entry in _harmless_globals()
    }
    return {name for name in found - known - _TORCH_ALLOWS if not name.startswith("torch.")}


def _scan_pickle(stream: BinaryIO, found: set[str]) -> None:
    """Add the globals of one pickle to `found`, up to its end or to where it is damaged.

    STACK_GLOBAL takes module and name from the stack: they are the last two strings pushed,
    directly or from the memo.
    """
    memo: dict[int, str] = {}
    strings: list[str] = []
    last = ""
    for opcode, argument, _ in pickletools.genops(stream):
        if opcode.name in ("GLOBAL", "INST"):
            found.add(str(argument).replace(" ", "."))
        elif opcode.name == "STACK_GLOBAL":
            found.add(".".join(strings[-2:]))
        elif opcode.name == "MEMOIZE":
            memo[len(memo)] = last
        elif opcode.name in ("BINPUT", "LONG_BINPUT", "PUT"):
            memo[int(str(argument))] = last
        elif opcode.name in ("BINGET", "LONG_BINGET", "GET"):
            strings.append(memo.get(int(str(argument)), ""))
        last = str(argument) if "UNICODE" in opcode.name else ""
        if last:
            strings.append(last)
