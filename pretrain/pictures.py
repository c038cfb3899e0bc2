"""The pictures of a pretraining run: found in a folder, listed, thinned out, read.

Labels are not needed. Class folders, where there are any, serve the balanced subset alone (the
low-data study of global-local self-distillation, section 4.5.1).
"""

import hashlib
import json
import os
import struct
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from vicregl_bench.atomic import write_atomic
from vicregl_bench.errors import ConfigError, DataError

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"})
_JPEG = b"\xff\xd8"
_UNREADABLE = (
    OSError,
    RuntimeError,
    ValueError,
    SyntaxError,
    EOFError,
    struct.error,
    Image.DecompressionBombError,
)


@dataclass(frozen=True)
class PictureList:
    """Pictures of a folder, in sorted order.

    Attributes:
        root: the folder.
        names: path of every picture below it, with forward slashes.
    """

    root: Path
    names: tuple[str, ...]

    @property
    def sha256(self) -> str:
        """Hash of the names: two runs over the same list share it, wherever the folder lies."""
        return hashlib.sha256(json.dumps(self.names).encode()).hexdigest()

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the class folders (ImageFolder's layout), empty for a flat folder."""
        tops = {name.partition("/")[0] for name in self.names if "/" in name}
        return tuple(sorted(tops)) if all("/" in name for name in self.names) else ()

    def labels(self) -> list[int]:
        """Class index of every picture, in the order of `classes`.

        Raises:
            DataError: a flat folder.
        """
        index = {name: i for i, name in enumerate(self.classes)}
        if not index:
            raise DataError(f"{self.root}: no class folders; labels are needed here")
        return [index[name.partition("/")[0]] for name in self.names]


def _walk(root: Path) -> Iterator[Path]:
    """Files below a folder, through links to folders, each folder once; not in hidden folders."""
    seen: set[Path] = set()
    for folder, below, files in os.walk(root, followlinks=True):
        here, real = Path(folder), Path(folder).resolve()
        if real in seen:
            below.clear()
            continue
        seen.add(real)
        below[:] = sorted(name for name in below if not name.startswith("."))
        yield from (here / name for name in files)


def list_pictures(root: Path) -> PictureList:
    """Find every picture below a folder: class folders, any deeper tree, or a flat folder.

    Links to folders are followed, as torchvision's ImageFolder does; hidden files and folders are
    left out.

    Raises:
        DataError: no such folder, or no picture in it.
    """
    if root.is_file():
        raise DataError(f"{root}: is a file; give a folder of pictures or of class folders")
    if not root.is_dir():
        raise DataError(f"{root}: no such folder; give a folder of pictures or of class folders")
    found = sorted(
        path.relative_to(root).as_posix()
        for path in _walk(root)
        if path.suffix.lower() in SUFFIXES and not path.name.startswith(".")
    )
    if not found:
        kinds = " ".join(sorted(SUFFIXES))
        raise DataError(f"{root}: no picture in this folder or below it (looked for {kinds})")
    splits = {name.partition("/")[0] for name in found} & {"train", "val", "test"}
    if len(splits) > 1:
        raise DataError(
            f"{root}: holds {' and '.join(sorted(splits))}, which are no classes; give one of them"
        )
    return PictureList(root, tuple(found))


def _rank(name: str, seed: int) -> str:
    return hashlib.sha256(os.fsencode(f"{seed}:{name}")).hexdigest()


def take_subset(pictures: PictureList, amount: float, *, seed: int = 0) -> PictureList:
    """A balanced part of a list, by hash: the same for the same names and seed, on any machine.

    Smaller subsets are contained in larger ones of the same seed.

    Args:
        pictures: the whole list.
        amount: a whole number of pictures a class, or a share in (0, 1) of every class.
        seed: another seed, another subset.

    Raises:
        ConfigError: an impossible amount, a count without class folders, or more pictures than
            the smallest class has.
    """
    if amount <= 0 or (amount >= 1 and amount != int(amount)):
        raise ConfigError(f"--subset {amount:g}: give pictures a class, or a share below 1")
    groups: dict[str, list[str]] = defaultdict(list)
    classes = pictures.classes
    for name in pictures.names:
        groups[name.partition("/")[0] if classes else ""].append(name)
    if amount >= 1 and not classes:
        raise ConfigError(
            f"--subset {amount:g} counts pictures a class, and {pictures.root} has no class "
            "folders: give a share such as 0.1"
        )
    kept: list[str] = []
    for group, names in groups.items():
        count = int(amount) if amount >= 1 else round(amount * len(names))
        if count > len(names):
            raise ConfigError(
                f"--subset {amount:g}: {group} has only {len(names)} pictures; take fewer"
            )
        kept += sorted(names, key=lambda name: _rank(name, seed))[:count]
    if not kept:
        raise ConfigError(f"--subset {amount:g} of {len(pictures.names)} pictures leaves none")
    return PictureList(pictures.root, tuple(sorted(kept)))


def _decode_jpeg(path: Path) -> Tensor:
    from torchvision.io import ImageReadMode, decode_jpeg, read_file

    decoded: Tensor = decode_jpeg(read_file(str(path)), mode=ImageReadMode.RGB)
    return decoded


def _decode_other(path: Path) -> Tensor:
    with Image.open(path) as picture:
        deep = picture.mode.startswith("I;16") or (picture.mode, picture.format) == ("I", "PNG")
        if deep:  # 16-bit grey; Pillow would cut it off at 255
            array = np.repeat((np.asarray(picture) >> 8).astype(np.uint8)[..., None], 3, axis=2)
        else:
            array = np.array(picture.convert("RGB"))
    return torch.from_numpy(array).permute(2, 0, 1).contiguous()


def read_picture(path: Path) -> Tensor:
    """Decode a picture: (3, H, W) uint8, RGB; of an animation the first frame.

    What begins as a JPEG goes through torchvision, faster than Pillow, whatever its suffix; Pillow
    reads the rest. A damaged PNG can crash or hang torchvision's decoder (0.29).

    Raises:
        DataError: the file is missing, truncated or no picture.
    """
    try:
        with path.open("rb") as stream:
            jpeg = stream.read(len(_JPEG)) == _JPEG
        return _decode_jpeg(path) if jpeg else _decode_other(path)
    except _UNREADABLE as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"{path}: not a readable picture ({reason})") from error


def check_sizes(
    pictures: PictureList, largest_view: int, *, upscale: bool, looked: int = 64
) -> None:
    """Look at some pictures before a run: most must be as large as the largest view.

    Args:
        pictures: the list.
        largest_view: side of the largest view, in pixels.
        upscale: take smaller pictures all the same (crops are resized up).
        looked: how many pictures are read, chosen by hash.

    Raises:
        DataError: none of them can be read, or more than half are smaller than the views.
    """
    chosen = sorted(pictures.names, key=lambda name: _rank(name, 0))[:looked]
    sides = []
    reasons = []
    for name in chosen:
        try:
            sides.append(min(read_picture(pictures.root / name).shape[1:]))
        except DataError as error:
            reasons.append(str(error))
    if not sides:
        raise DataError(f"none of {len(chosen)} pictures can be read, the first: {reasons[0]}")
    typical = sorted(sides)[len(sides) // 2]
    if typical < largest_view and not upscale:
        raise DataError(
            f"{pictures.root}: views of {largest_view} px are larger than the pictures (typically "
            f"{typical} px): use smaller ones (--set views.large_size), or --set data.upscale=true"
        )


def write_list(pictures: Sequence[str], path: Path) -> None:
    """Write the names, one a line."""
    write_atomic(path, os.fsencode("".join(f"{name}\n" for name in pictures)))


def read_list(path: Path) -> set[str]:
    """Read what `write_list` wrote."""
    return set(os.fsdecode(path.read_bytes()).split("\n")) - {""}
