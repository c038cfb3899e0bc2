"""What a job leaves for the record: every head, and what it scored."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vicregl_bench.heads.sweep import HeadSpec
from vicregl_bench.tasks.outcome import Outcome


@dataclass(frozen=True)
class Scores:
    """What evaluation leaves; no outcome where every head diverged.

    Attributes:
        val: what the heads did on the val pictures.
        held: on the held-out slice, None where there is none.
        kept: for each head, name of a val picture -> what is kept of it.
        notes: for each head, what a reader of its scores has to know; empty where there is nothing.
    """

    val: Outcome | None = None
    held: Outcome | None = None
    kept: tuple[Mapping[str, Any], ...] = ()
    notes: tuple[tuple[str, ...], ...] = ()


@dataclass(frozen=True)
class Measured:
    """Every head of a task, trained and scored.

    Attributes:
        heads: learning rates and seeds.
        diverged_at: iteration at which a head's loss stopped being finite, -1 where it never did.
        scores: K heads in the order of `heads`.
    """

    heads: tuple[HeadSpec, ...]
    diverged_at: tuple[int, ...]
    scores: Scores


def join_scores(kind: type[Outcome], parts: Sequence[Scores]) -> Scores:
    """Scores of one head each as those of all.

    Args:
        kind: of the outcomes.
        parts: in the order of the heads.
    """
    return Scores(
        kind.together([one.val for one in parts]),
        kind.together([one.held for one in parts]),
        tuple(one.kept[0] if one.kept else {} for one in parts),
        tuple(one.notes[0] if one.notes else () for one in parts),
    )
