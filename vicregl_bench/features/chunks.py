"""Rows of a matrix a part at a time, so that copies of them take little memory."""

from collections.abc import Iterator

_CHUNK = 2**25  # elements at a time: 256 MiB of float64


def chunks(rows: int, width: int) -> Iterator[slice]:
    """Slices that cover so many rows, each of a bounded number of elements and of a row at least.

    Args:
        rows: of the matrix.
        width: elements that a row, or what is computed of it, has.
    """
    step = max(1, _CHUNK // width)
    for start in range(0, rows, step):
        yield slice(start, min(rows, start + step))
