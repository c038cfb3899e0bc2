"""The list of readers. A new method is one file in this package and one line here."""

from vicregl_bench.checkpoints import bare, own, torchvision, vicreg, vicregl
from vicregl_bench.checkpoints.contents import Contents
from vicregl_bench.checkpoints.reader import Reader
from vicregl_bench.errors import CheckpointError

READERS: tuple[Reader, ...] = (
    own.READER,
    vicregl.READER,
    vicreg.READER,
    torchvision.READER,
    bare.READER,
)
"""Every reader; a file belongs to the first that recognises it, so the least specific come last."""


def method_names() -> tuple[str, ...]:
    """Return the identifiers `--method` takes."""
    return tuple(reader.card.method for reader in READERS)


def find_reader(method: str) -> Reader:
    """Return the reader of a method.

    Raises:
        CheckpointError: there is no such method; the known ones are listed.
    """
    for reader in READERS:
        if reader.card.method == method:
            return reader
    raise CheckpointError(f"unknown method {method!r}; known: {', '.join(method_names())}")


def recognise(contents: Contents) -> Reader:
    """Return the first reader that recognises the file by its keys, `bare` if none does."""
    return next((reader for reader in READERS if reader.recognises(contents)), bare.READER)
