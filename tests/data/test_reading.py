"""A damaged picture is named, whatever Pillow makes of it."""

import io
from pathlib import Path

import pytest
from PIL import Image

from vicregl_bench.data.reading import read_rgb
from vicregl_bench.errors import DataError


def test_a_tiff_whose_offset_is_text(tmp_path: Path) -> None:
    """Pillow raises TypeError."""
    buffer, path = io.BytesIO(), tmp_path / "odd.tif"
    Image.new("RGB", (8, 8)).save(buffer, "TIFF")
    content = bytearray(buffer.getvalue())
    content[72] = 2  # the type of StripOffsets: ASCII
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"^cannot read the picture .*odd\.tif: [^\n]*$"):
        read_rgb(path)
