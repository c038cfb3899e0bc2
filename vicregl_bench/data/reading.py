"""Reading one picture, whatever is wrong with it."""

import struct
from pathlib import Path

from PIL import Image

from vicregl_bench.errors import DataError

DAMAGE = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    ArithmeticError,
    EOFError,
    struct.error,
    Image.DecompressionBombError,
)
"""What Pillow raises on damaged files, and what its parsers may."""


def read_rgb(path: Path) -> Image.Image:
    """A picture in RGB.

    Raises:
        DataError: it cannot be read.
    """
    try:
        with Image.open(path) as picture:
            return picture.convert("RGB")
    except DAMAGE as error:
        raise DataError(f"cannot read the picture {path}: {error}") from error
