"""What a method's file in this package has to say: a card, and how its checkpoints look."""

from collections.abc import Callable
from dataclasses import dataclass

from vicregl_bench.checkpoints.card import Card
from vicregl_bench.checkpoints.contents import Contents


@dataclass(frozen=True)
class Reader:
    """The reader of one method.

    Attributes:
        card: facts about the method's weights.
        files: the published files and where the backbone lies in them, in one line.
        architectures: what the method publishes, in one line.
        recognises: whether a file is this method's, judged by the keys in it, never by its name.
        prefer_prefixes: addresses (container and prefix, or prefix alone) that settle a tie
            between several places that each hold a whole backbone, best first.
        prefer_archs: architectures meant where several have the same shapes, e.g. ViTs of other
            numbers of heads; the first that fits is taken.
        rearrange: makes a file's contents readable where a prefix is not enough, e.g. joins a
            backbone that lies in two places; it may add containers, never take one away.
        read_card: the card of one file, where files carry their own.
        verified: what the reader was tried on.
    """

    card: Card
    files: str
    architectures: str
    recognises: Callable[[Contents], bool]
    prefer_prefixes: tuple[str, ...] = ()
    prefer_archs: tuple[str, ...] = ()
    rearrange: Callable[[Contents], Contents] | None = None
    read_card: Callable[[Contents], Card] | None = None
    verified: str = "a file made here in this layout"
