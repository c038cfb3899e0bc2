"""The best point of a grid: which scores choose it."""

from collections.abc import Sequence

import numpy as np
import pytest

from vicregl_bench.heads.sweep import HeadSpec
from vicregl_bench.tasks.classification.outcome import LabelRanks
from vicregl_bench.tasks.measured import Measured, Scores
from vicregl_bench.tasks.results import choose_best, head_results

KS = (1, 3, 10)
CLASSES = ("a", "b")


def outcome(rights: Sequence[int]) -> LabelRanks:
    """Of ten pictures so many are right, by every head."""
    ranks = np.stack([np.arange(10) >= right for right in rights], axis=1).astype(np.int64)
    return LabelRanks(tuple("abcdefghij"), np.arange(10) % 2, ranks, len(CLASSES))


def measured(val: Sequence[int], held: Sequence[int] | None, seeds: int = 1) -> Measured:
    heads = tuple(HeadSpec(None, seed, (("k", k),)) for k in KS for seed in range(seeds))
    scores = Scores(outcome(val), None if held is None else outcome(held))
    return Measured(heads, (-1,) * len(heads), scores)


@pytest.mark.parametrize(
    ("held", "chosen"),
    [(None, 1), ([2, 3, 8], 2), ([3, 8, 2], 1), ([8, 3, 2], 0), ([8, 3, 8], 0)],
)
def test_held_out_pictures_choose_where_there_are_some(
    held: Sequence[int] | None, chosen: int
) -> None:
    """Val's scores are reported; of equal points the first is best."""
    val = [4, 9, 7]
    made = measured(val, held)
    results = head_results(made, CLASSES)
    expected = [None] * 3 if held is None else [10.0 * right for right in held]
    assert [one.holdout for one in results] == expected
    assert [one.score for one in results] == [40.0, 90.0, 70.0]
    found = choose_best(results, CLASSES, outcome(val))
    assert found is not None
    best, heads = found
    assert heads == (chosen,) and best.options == {"k": KS[chosen]}
    assert best.score == 10.0 * val[chosen] and best.interval[0] < best.score < best.interval[1]


@pytest.mark.parametrize(
    ("held", "chosen"), [(None, 1), ([9, 1, 6, 6, 4, 4], 1), ([9, 5, 6, 6, 4, 4], 0)]
)
def test_the_mean_of_the_seeds_chooses(held: Sequence[int] | None, chosen: int) -> None:
    val = [9, 3, 7, 7, 1, 2]
    made = measured(val, held, seeds=2)
    found = choose_best(head_results(made, CLASSES), CLASSES, outcome(val))
    assert found is not None
    best, heads = found
    assert heads == (2 * chosen, 2 * chosen + 1) and best.options == {"k": KS[chosen]}
    assert (best.score, best.std, best.seeds) == ((60.0, 30.0, 2), (70.0, 0.0, 2))[chosen]
