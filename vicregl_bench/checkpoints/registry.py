"""The list of readers. A new method is one file in `methods` and one line here."""

from vicregl_bench.checkpoints.contents import Contents
from vicregl_bench.checkpoints.methods import (
    bare,
    barlow_twins,
    byol,
    cp2,
    densecl,
    detcon,
    detectron2,
    detectron2_rgb,
    dino,
    dinov2,
    ibot,
    insloc,
    lightly,
    mae,
    mmselfsup,
    moco_v2,
    moco_v3,
    own,
    pixpro,
    resim,
    simclr,
    solo_learn,
    swav,
    timm,
    torchvision,
    vicreg,
    vicregl,
    vissl,
)
from vicregl_bench.checkpoints.reader import Reader
from vicregl_bench.errors import CheckpointError

_OF_ONE_METHOD: tuple[Reader, ...] = (
    vicregl.READER,
    vicreg.READER,
    barlow_twins.READER,
    byol.READER,
    simclr.READER,
    swav.READER,
    pixpro.READER,
    insloc.READER,
    cp2.READER,
    resim.READER,
    densecl.READER,
    detcon.READER,
    moco_v2.READER,
    moco_v3.READER,
    dinov2.READER,
    ibot.READER,
    dino.READER,
    mae.READER,
)

_OF_ANY_METHOD: tuple[Reader, ...] = (
    vissl.READER,
    detectron2.READER,
    detectron2_rgb.READER,
    lightly.READER,
    solo_learn.READER,
    mmselfsup.READER,
    timm.READER,
    torchvision.READER,
)

READERS: tuple[Reader, ...] = (own.READER, *_OF_ONE_METHOD, *_OF_ANY_METHOD, bare.READER)
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
