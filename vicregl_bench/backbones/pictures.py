"""A few pictures as a tensor, to hold a backbone against."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from vicregl_bench.errors import DataError

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"})


def centre_crops(paths: Sequence[Path], side: int) -> Tensor:
    """Pictures with the shorter side resized to `side` (bicubic) and cut square.

    Returns:
        (B, 3, side, side), RGB, float32, 0 to 255.

    Raises:
        DataError: a picture cannot be read.
    """
    crops: list[Tensor] = []
    for path in paths:
        try:
            with Image.open(path) as picture:
                rgb = picture.convert("RGB")
        except (OSError, UnidentifiedImageError, ValueError) as error:
            raise DataError(f"{path}: cannot be read as a picture ({error})") from error
        scale = side / min(rgb.size)
        width, height = (max(side, round(length * scale)) for length in rgb.size)
        rgb = rgb.resize((width, height), Image.Resampling.BICUBIC)
        left, top = (width - side) // 2, (height - side) // 2
        square = np.asarray(rgb.crop((left, top, left + side, top + side)), dtype=np.float32)
        crops.append(torch.from_numpy(square.transpose(2, 0, 1).copy()))
    return torch.stack(crops)


def find_pictures(folder: Path, count: int) -> list[Path]:
    """Pictures spread evenly over the sorted list of a folder and all folders inside it.

    Raises:
        DataError: there is no such folder, or no picture in it.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder of pictures")
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    if not found:
        raise DataError(f"{folder}: no pictures in it ({', '.join(sorted(SUFFIXES))})")
    count = min(count, len(found))
    return [found[index * len(found) // count] for index in range(count)]
