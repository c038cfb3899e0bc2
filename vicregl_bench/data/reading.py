"""Reading one picture, whatever is wrong with it."""

from pathlib import Path

from PIL import Image

from vicregl_bench.errors import DataError


def read_rgb(path: Path) -> Image.Image:
    """A picture in RGB.

    Raises:
        DataError: it cannot be read.
    """
    try:
        with Image.open(path) as picture:
            return picture.convert("RGB")
    # what Pillow raises on damage
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"cannot read the picture {path}: {error}") from error
