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
        recognises: whether a file is this method's, judged by the keys in it, never by its name.
        prefer_prefixes: addresses (container and prefix, or prefix alone) that settle a tie
            between several places that each hold a whole backbone, best first.
        read_card: the card of one file, where files carry their own.
    """

    card: Card
    recognises: Callable[[Contents], bool]
    prefer_prefixes: tuple[str, ...] = ()
    read_card: Callable[[Contents], Card] | None = None
