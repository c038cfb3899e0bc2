"""Files that want to run code or to take far more memory than they are large."""

import io
import os
import pickle
import struct
import zipfile
import zlib
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from vicregl_bench.checkpoints import read_file
from vicregl_bench.errors import CheckpointError

FAR = 10**13
"""A size that no machine here has, in bytes or elements."""

RECONSTRUCT = np.zeros(1).__reduce__()[0]

LEGACY_START = (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True})


def error_of(path: Path, **options: bool) -> str:
    """The one line with which a file is refused."""
    with pytest.raises(CheckpointError) as caught:
        read_file(path, **options)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message and message.isprintable()
    return message


class Payload:
    """Unpickling it writes a file: the trace that code in a checkpoint was run."""

    def __init__(self, trace: Path, how: str) -> None:
        self.trace, self.how = trace, how

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        if self.how == "os.system":
            return (os.system, (f"touch {self.trace}",))
        if self.how == "open":
            return (io.open, (str(self.trace), "w"))
        return (Path.write_text, (self.trace, "executed"))


class Made:
    """Pickled as a call."""

    def __init__(self, function: Any, *arguments: Any, state: Any = None) -> None:
        self.call = (function, arguments) if state is None else (function, arguments, state)

    def __reduce__(self) -> tuple[Any, ...]:
        return self.call


class StorageId(tuple[Any, ...]):
    """Pickled as a persistent id."""


class _Pickler(pickle.Pickler):
    def persistent_id(self, obj: Any) -> tuple[Any, ...] | None:
        return tuple(obj) if isinstance(obj, StorageId) else None


def dumps(value: object, protocol: int = 2) -> bytes:
    """Pickle with storages as persistent ids."""
    stream = io.BytesIO()
    _Pickler(stream, protocol).dump(value)
    return stream.getvalue()


def storage(numel: int, key: str = "0", *, legacy: bool = False) -> StorageId:
    ids = ("storage", torch.FloatStorage, key, "cpu", numel)
    return StorageId((*ids, None) if legacy else ids)


def tensor(store: StorageId, size: tuple[int, ...], stride: tuple[int, ...], start: int = 0) -> Any:
    rebuild = torch._utils._rebuild_tensor_v2
    return Made(rebuild, store, start, size, stride, False, OrderedDict())


def write_zip(path: Path, value: object, records: Mapping[str, bytes] | None = None) -> None:
    """Write an archive like torch.save's around any pickled value (or its bytes)."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("f/data.pkl", value if isinstance(value, bytes) else dumps(value))
        archive.writestr("f/byteorder", "little")
        for name, data in (records if records is not None else {"data/0": bytes(16)}).items():
            archive.writestr(f"f/{name}", data)
        archive.writestr("f/version", "3\n")


def write_legacy(
    path: Path,
    value: object,
    storages: Mapping[str, bytes] | None = None,
    *,
    system: object = LEGACY_START[2],
) -> None:
    """Write a file like torch.save's before 1.6; the storages are of float32."""
    stored = {"0": bytes(16)} if storages is None else storages
    parts = [*LEGACY_START[:2], system, value, list(stored)]
    content = [dumps(part) for part in parts]
    content += [struct.pack("<q", len(data) // 4) + data for data in stored.values()]
    path.write_bytes(b"".join(content))


def write_bomb(path: Path, name: str) -> None:
    """Write an archive of which one entry is 1 GiB of zeros, packed into a megabyte."""
    pack = zlib.compressobj(wbits=-15)
    part = pack.compress(bytes(1 << 24)) + pack.flush(zlib.Z_FULL_FLUSH)
    packed = part * 64 + pack.flush()
    with zipfile.ZipFile(path, "w") as archive:
        for entry in ("f/data.pkl", "f/data/0"):
            archive.writestr(entry, packed if entry == name else dumps({}))
        info = archive.getinfo(name)
        info.compress_type, info.file_size = zipfile.ZIP_DEFLATED, 1 << 30


def write_overlapping(path: Path) -> None:
    """Write an archive that lists the same MiB a thousand times."""
    write_zip(path, {}, {"data/0": bytes(1 << 20)})
    with zipfile.ZipFile(path, "a") as archive:
        first = archive.getinfo("f/data/0")
        for number in range(1, 1000):
            again = zipfile.ZipInfo(f"f/data/{number}")
            again.header_offset, again.CRC = first.header_offset, first.CRC
            again.file_size = again.compress_size = first.file_size
            archive.filelist.append(again)
        archive._didModify = True  # type: ignore[attr-defined]


def safetensors(header: bytes, data: bytes = b"", length: int | None = None) -> bytes:
    size = len(header) if length is None else length
    return struct.pack("<Q", size) + header + data


def npy(header: str, data: bytes = b"") -> bytes:
    text = header.encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + data


def npz(path: Path, entries: Mapping[str, bytes], method: int = zipfile.ZIP_STORED) -> None:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in entries.items():
            archive.writestr(name, data)


def save_object(path: Path, value: object) -> None:
    """As `np.save` does it, under any name."""
    with path.open("wb") as stream:
        np.save(stream, np.array(value, dtype=object))


def save_arrays(path: Path, **arrays: Any) -> None:
    """As `np.savez` does it, under any name."""
    with path.open("wb") as stream:
        np.savez(stream, **arrays)


def array_state(shape: tuple[int, ...], data: object = b"", code: str = "f8") -> Any:
    """An array that claims a shape in its state."""
    state = (1, shape, np.dtype(code), False, data)
    return Made(RECONSTRUCT, np.ndarray, (0,), b"b", state=state)


def _absurd_array() -> Any:
    return Made(RECONSTRUCT, np.ndarray, (FAR,), b"d")


def _nested(levels: int, open_with: bytes, close_with: bytes) -> bytes:
    return b"\x80\x02" + open_with * levels + close_with * (levels - 1) + b"."


_F4 = "{'descr': '<f4', 'fortran_order': False, 'shape': (%d,), }"
_OBJECT = "{'descr': '|O', 'fortran_order': False, 'shape': (), }"
_ENTRY = b'"%s":{"dtype":"F32","shape":[%d],"data_offsets":[%d,%d]}'

HOSTILE: dict[str, tuple[Callable[[Path], Any], str]] = {
    # zip archives of torch.save
    "zip_bomb_pickle": (lambda p: write_bomb(p, "f/data.pkl"), "are compressed"),
    "zip_bomb_storage": (lambda p: write_bomb(p, "f/data/0"), "are compressed"),
    "zip_overlap": (write_overlapping, "overlap"),
    "zip_beyond_storage": (
        lambda p: write_zip(p, {"w": tensor(storage(4), (FAR,), (1,))}),
        "10,000,000,000,000 elements lies outside its storage of 16 bytes",
    ),
    "zip_offset": (
        lambda p: write_zip(p, {"w": tensor(storage(4), (2,), (1,), 3)}),
        "outside its storage",
    ),
    "zip_stride": (
        lambda p: write_zip(p, {"w": tensor(storage(4), (2, 2), (1, -1))}),
        "no number",
    ),
    "zip_storage": (
        lambda p: write_zip(p, {"w": tensor(storage(FAR), (FAR,), (1,))}),
        "a storage of 40,000,000,000,000 bytes has 16 in the file",
    ),
    "zip_no_storage": (
        lambda p: write_zip(p, {"w": tensor(storage(4, "7"), (4,), (1,))}),
        "a storage of 16 bytes has 0 in the file",
    ),
    "zip_tensor_by_size": (
        lambda p: write_zip(p, {"w": Made(torch.FloatTensor, FAR)}),
        "foreign globals: torch.FloatTensor",
    ),
    "zip_bytearray": (lambda p: write_zip(p, {"w": Made(bytearray, FAR)}), "a bytearray is made"),
    "zip_array": (lambda p: write_zip(p, {"w": _absurd_array()}), "an array is made in a way"),
    "zip_array_state": (lambda p: write_zip(p, {"w": array_state((FAR,))}), "does not fit"),
    "zip_repr": (  # torch's message would quote the value that is called
        lambda p: write_zip(p, b"\x80\x02]q\x00(K\x00e" + b"]q\x01(h\x00h\x00eq\x00" * 60 + b")R."),
        "cannot be read",
    ),
    "zip_nested": (lambda p: write_zip(p, _nested(100_000, b"]", b"a")), "more than 1000 deep"),
    # torch.save before 1.6
    "legacy_storage": (
        lambda p: write_legacy(p, {"w": tensor(storage(FAR, legacy=True), (FAR,), (1,))}),
        "a storage has two sizes",
    ),
    "legacy_storage_alone": (
        lambda p: write_legacy(p, {"w": storage(FAR, legacy=True)}, {}),
        "list of storages",
    ),
    "legacy_beyond_storage": (
        lambda p: write_legacy(p, {"w": tensor(storage(4, legacy=True), (FAR,), (1,))}),
        "outside its storage",
    ),
    "legacy_bytearray": (
        lambda p: write_legacy(p, {}, {}, system=Made(bytearray, FAR)),
        "a bytearray is made",
    ),
    # plain pickles
    "pickle_nested": (lambda p: p.write_bytes(_nested(100_000, b"]", b"a")), "more than 1000 deep"),
    "pickle_nested_key": (
        lambda p: p.write_bytes(b"\x80\x02}N" + b"\x85" * 3_000_000 + b"Ns."),
        "more than 1000 deep",
    ),
    "pickle_hash": (
        lambda p: p.write_bytes(b"\x80\x02}N" + b"2\x86" * 200 + b"Ns."),
        "repeats values",
    ),
    "pickle_number": (
        lambda p: p.write_bytes(dumps({256**10_000: 1})),
        "a number of absurd length",
    ),
    "pickle_memo": (
        lambda p: p.write_bytes(b"\x80\x02}r\x00\x00\x00\x7f."),
        "at place 2130706432",
    ),
    "pickle_frame": (
        lambda p: p.write_bytes(b"\x80\x04\x95" + struct.pack("<Q", FAR) + b"}."),
        "truncated",
    ),
    "pickle_bytes": (
        lambda p: p.write_bytes(b"\x80\x04\x8e" + struct.pack("<Q", FAR) + b"abc."),
        "truncated",
    ),
    "pickle_bytearray": (lambda p: p.write_bytes(dumps(Made(bytearray, FAR))), "bytearray is made"),
    "pickle_array": (lambda p: p.write_bytes(dumps(_absurd_array())), "an array is made"),
    "pickle_array_type": (
        lambda p: p.write_bytes(dumps(Made(np.ndarray, (FAR,)))),
        "an array is made",
    ),
    "pickle_array_state": (lambda p: p.write_bytes(dumps(array_state((FAR,)))), "does not fit"),
    # NumPy's files
    "npy_array": (lambda p: p.write_bytes(npy(_F4 % FAR)), "names no tensors"),
    "npy_object": (
        lambda p: p.write_bytes(npy(_OBJECT, dumps(_absurd_array()))),
        "an array is made",
    ),
    "npy_header": (
        lambda p: p.write_bytes(b"\x93NUMPY\x02\x00\xff\xff\xff\xff" + bytes(100)),
        "header is too long",
    ),
    "npz_bomb": (
        lambda p: npz(p, {"a.npy": npy(_F4 % (1 << 24), bytes(1 << 26))}, zipfile.ZIP_DEFLATED),
        "more than 64 times the file",
    ),
    "npz_shape": (
        lambda p: npz(p, {"a.npy": npy(_F4 % FAR, bytes(16))}),
        "shape does not fit its bytes",
    ),
    # safetensors
    "safetensors_header": (
        lambda p: p.write_bytes(safetensors(b"{}", length=FAR)),
        "claims 10,000,000,000,000 bytes",
    ),
    "safetensors_short_header": (
        lambda p: p.write_bytes(safetensors(b"{}", length=1 << 20)),
        "truncated",
    ),
    "safetensors_shape": (
        lambda p: p.write_bytes(
            safetensors(b"{" + _ENTRY % (b"a", FAR, 0, 4 * FAR) + b"}", bytes(16))
        ),
        "truncated",
    ),
    "safetensors_overlap": (
        lambda p: p.write_bytes(
            safetensors(
                b"{" + _ENTRY % (b"a", 4, 0, 16) + b"," + _ENTRY % (b"b", 4, 8, 24) + b"}",
                bytes(24),
            )
        ),
        "invalid offset",
    ),
}
"""Name -> what writes such a file, and words of the line with which it is refused."""
