"""Key names of other projects, by family: one table a project, told by keys that it alone has.

A file under other names is read by way of its dialect's `read`; `write` makes one (see `convert`).
"""

from vicregl_bench.checkpoints.names import convnext, resnet, swin, vit
from vicregl_bench.checkpoints.names.dialect import Dialect
from vicregl_bench.checkpoints.names.resnet import join_haiku
from vicregl_bench.errors import CheckpointError

DIALECTS: tuple[Dialect, ...] = (
    *resnet.DIALECTS,
    *convnext.DIALECTS,
    *vit.DIALECTS,
    *swin.DIALECTS,
)
"""Those that a file may be written in."""

__all__ = ["DIALECTS", "Dialect", "find_dialect", "join_haiku"]


def find_dialect(name: str, family: str) -> Dialect:
    """Return one of `DIALECTS`, or VICRegL's `released` one of ConvNeXts.

    Raises:
        CheckpointError: there is none of that name for that family.
    """
    known = [found for found in (*DIALECTS, convnext.RELEASED) if found.family == family]
    for found in known:
        if found.name == name:
            return found
    names = ", ".join(found.name for found in known) or "none"
    raise CheckpointError(f"no dialect {name!r} of {family}; known: {names}")
