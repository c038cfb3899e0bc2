"""The slice that is held out: golden names, nested slices, and every class on both sides."""

from collections import Counter
from pathlib import Path

import pytest

from vicregl_bench.data import Labelled, Pair, split_holdout
from vicregl_bench.errors import ConfigError, DataError

PAIRS = tuple(Pair(f"2012_{number:06d}", Path("i"), Path("m")) for number in range(20))


def labelled(*sizes: int) -> tuple[Labelled, ...]:
    """Classes of so many pictures."""
    return tuple(
        Labelled(f"c{label}/{number}", Path("i"), label)
        for label, size in enumerate(sizes)
        for number in range(size)
    )


def test_holdout_is_the_same_everywhere() -> None:
    kept, held = split_holdout(PAIRS, share=0.2, seed=0)
    # Golden: the order of sha256(f"0:{name}"), which depends on nothing but the names.
    assert [pair.name for pair in held] == [
        "2012_000003",
        "2012_000006",
        "2012_000009",
        "2012_000016",
    ]
    assert [pair for pair in PAIRS if pair not in held] == list(kept)
    assert split_holdout(PAIRS[::-1], share=0.2, seed=0)[1] == held[::-1]
    assert split_holdout(PAIRS, share=0.2, seed=1)[1] != held


def test_larger_holdout_contains_the_smaller() -> None:
    small, large = (set(split_holdout(PAIRS, share=share)[1]) for share in (0.1, 0.5))
    assert len(small) == 2
    assert len(large) == 10
    assert small < large


def test_holdout_leaves_one_on_either_side() -> None:
    assert [len(part) for part in split_holdout(PAIRS[:2], share=0.01)] == [1, 1]
    assert [len(part) for part in split_holdout(PAIRS[:2], share=0.99)] == [1, 1]


def test_holdout_refuses() -> None:
    with pytest.raises(DataError, match="1 pictures"):
        split_holdout(PAIRS[:1])
    with pytest.raises(ConfigError, match="share"):
        split_holdout(PAIRS, share=1.0)


def test_a_class_gives_its_share() -> None:
    for seed in range(5):
        kept, held = split_holdout(labelled(100, 40, 20, 10), share=0.1, seed=seed)
        assert Counter(one.label for one in held) == {0: 10, 1: 4, 2: 2, 3: 1}
        assert len(kept) == 153


@pytest.mark.parametrize("share", [0.1, 0.5, 0.97])
def test_no_class_is_left_without_a_picture(share: float) -> None:
    pictures = labelled(1, 2, 3, 1, 12)
    for seed in range(20):
        kept, held = split_holdout(pictures, share=share, seed=seed)
        assert {one.label for one in kept} == {0, 1, 2, 3, 4}
        assert len(held) == min(round(share * 19), 14) and len(kept) + len(held) == 19


def test_a_slice_of_classes_of_one_picture_is_refused() -> None:
    with pytest.raises(DataError, match="slice of 5 pictures: at least 2 of one class are"):
        split_holdout(labelled(1, 1, 1, 1, 1))
