"""The entries of a zip archive, checked before anything in it is unpacked.

A zip archive is listed at its end, and the list may lie: entries that lie on top of one another, or
that are larger than the file, make a megabyte of file into a terabyte of data. What is accepted
here is read alike by Python and by torch: no bytes before the first entry, no comment after the
list, every name once.
"""

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from vicregl_bench.checkpoints.files.pickle_file import DOWNLOAD, one_line
from vicregl_bench.errors import CheckpointError

MAX_LIST = 1 << 24
"""Bytes of the list: 100,000 entries; Python makes objects of it ten times as large."""

_END = b"PK\x05\x06"
_END_SIZE = 22
_LOCATOR = b"PK\x06\x07"
_LOCATOR_SIZE = 20
_END64 = b"PK\x06\x06"
_END64_SIZE = 56
_LOCAL = b"PK\x03\x04"
_LOCAL_SIZE = 30


@dataclass(frozen=True)
class Entry:
    """One entry of an archive.

    Attributes:
        name: with its folders.
        size: bytes unpacked, as the list says.
        packed: bytes in the file.
        method: of compression, `zipfile.ZIP_STORED` for none.
    """

    name: str
    size: int
    packed: int
    method: int


def read_directory(path: Path) -> list[Entry]:
    """List a zip archive's entries in the file's order.

    Raises:
        CheckpointError: the archive is truncated, damaged or encrypted, its entries overlap or do
            not fit the file, or a name is there twice.
    """
    try:
        with path.open("rb") as stream:
            start = _find_list(stream)
            with zipfile.ZipFile(stream) as archive:
                if archive.start_dir != start:
                    raise zipfile.BadZipFile("the list of its entries is not where it says")
                infos = sorted(archive.infolist(), key=lambda info: info.header_offset)
                _check_places(stream, infos, start)
    except Exception as error:  # zipfile meets arbitrary bytes: any type may come out
        raise CheckpointError(
            f"{path}: the file is truncated or damaged ({one_line(error)}); {DOWNLOAD}"
        ) from error
    return [
        Entry(info.filename, info.file_size, info.compress_size, info.compress_type)
        for info in infos
    ]


def _find_list(stream: BinaryIO) -> int:
    """Return where the list starts that ends with the file, of sane length."""
    size = stream.seek(0, 2)
    length, offset = _read_end(stream, size - _END_SIZE, _END, slice(12, 16), slice(16, 20))
    if stream.seek(max(0, size - _END_SIZE - _LOCATOR_SIZE)) and stream.read(4) == _LOCATOR:
        start = size - _END_SIZE - _LOCATOR_SIZE - _END64_SIZE
        stream.seek(size - _END_SIZE - _LOCATOR_SIZE + 8)
        if int.from_bytes(stream.read(8), "little") != start:
            raise zipfile.BadZipFile("the list of its entries is not at its end")
        length, offset = _read_end(stream, start, _END64, slice(40, 48), slice(48, 56))
    if length > MAX_LIST:
        raise zipfile.BadZipFile(f"the list of its entries takes {length:,} bytes")
    return offset


def _read_end(
    stream: BinaryIO, start: int, magic: bytes, length: slice, offset: slice
) -> tuple[int, int]:
    """Return the list's length and offset from the record after it."""
    stream.seek(max(0, start))
    record = stream.read(offset.stop)
    if not record.startswith(magic) or len(record) < offset.stop:
        raise zipfile.BadZipFile("the list of its entries is not at its end")
    return int.from_bytes(record[length], "little"), int.from_bytes(record[offset], "little")


def _check_places(stream: BinaryIO, infos: list[zipfile.ZipInfo], end: int) -> None:
    """Check that each entry lies between the one before it and the one after it."""
    if len({info.filename for info in infos}) < len(infos):
        raise zipfile.BadZipFile("two entries have the same name")
    if infos and infos[0].header_offset:
        raise zipfile.BadZipFile("its first entry is not at its start")
    starts = [info.header_offset for info in infos]
    for info, limit in zip(infos, [*starts[1:], end], strict=False):
        if info.flag_bits & 1:
            raise zipfile.BadZipFile("its entries are encrypted")
        if info.filename != info.orig_filename:
            raise zipfile.BadZipFile("an entry has a name with a zero byte")
        if info.compress_type == zipfile.ZIP_STORED and info.file_size != info.compress_size:
            raise zipfile.BadZipFile("an entry has another size than it says")
        stream.seek(info.header_offset)
        header = stream.read(_LOCAL_SIZE)
        if len(header) < _LOCAL_SIZE or not header.startswith(_LOCAL):
            raise zipfile.BadZipFile("an entry has no header")
        names = int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")
        if info.header_offset + _LOCAL_SIZE + names + info.compress_size > limit:
            raise zipfile.BadZipFile("its entries overlap")
