"""Average precision of image labels: by hand, by fractions, against mmdet, and its interval."""

from fractions import Fraction

import numpy as np
import numpy.typing as npt
import pytest
from mmdet.evaluation.functional import average_precision

from vicregl_bench.tasks.classification.multi_label_outcome import (
    MultiLabelScores,
    average_precisions,
)


def outcome(count: int = 60, classes: int = 3, heads: int = 2) -> MultiLabelScores:
    generator = np.random.default_rng(0)
    labels = generator.choice([-1, 0, 1], p=[0.6, 0.1, 0.3], size=(count, classes)).astype(np.int8)
    scores = labels[:, None] + generator.normal(size=(count, heads, classes)) * 1.5
    return MultiLabelScores(
        tuple(f"{number:06}" for number in range(count)),
        labels,
        scores.astype(np.float32),
        np.ones((heads, classes)),
    )


def test_average_precision_by_hand() -> None:
    # ranked: with, without, with, without, without, with: precision 1, 2/3, 1/2 at recall 1/3 ...
    positive = np.array([False, True, True, False, True, False])
    scores = np.array([0.4, 0.9, 0.1, 0.8, 0.7, 0.3])
    points, areas = average_precisions(positive, scores, np.ones((1, 6)))
    # recalls 0 ... 0.3, 0.4 ... 0.6, 0.7 ... 1
    assert points[0] == pytest.approx(100 * (4 * 1 + 3 * 2 / 3 + 4 * 1 / 2) / 11)
    assert areas[0] == pytest.approx(100 * (1 + 2 / 3 + 1 / 2) / 3)


def test_a_later_higher_precision_counts_for_smaller_recalls() -> None:
    positive = np.array([False, True, True, True])
    points, areas = average_precisions(positive, np.arange(4, 0, -1.0), np.ones((1, 4)))
    assert points[0] == areas[0] == pytest.approx(75)


@pytest.mark.parametrize("seed", range(5))
def test_average_precision_is_mmdets(seed: int) -> None:
    generator = np.random.default_rng(seed)
    positive = generator.random(70) < 0.3
    scores = generator.normal(size=70) + positive
    points, areas = average_precisions(positive, scores, np.ones((1, 70)))
    hits = np.cumsum(positive[np.argsort(-scores)])
    recall, precision = hits / hits[-1], hits / np.arange(1, 71)
    # its recalls 0.3, 0.6 and 0.7 are one bit above 3/10, 6/10 and 7/10
    points07 = average_precision(recall + 1e-12, precision, "11points")
    assert points[0] == pytest.approx(100 * points07)
    assert areas[0] == pytest.approx(100 * average_precision(recall, precision, "area"))


def voc07(positive: npt.NDArray[np.bool_], scores: npt.NDArray[np.float64]) -> float:
    """Everingham et al. 2010, section 4.2: the highest precision at a recall of at least t."""
    hits = np.cumsum(positive[np.argsort(-scores, kind="stable")]).tolist()
    curve = [(Fraction(hit, hits[-1]), Fraction(hit, seen)) for seen, hit in enumerate(hits, 1)]
    highest = [max(p for recall, p in curve if recall >= Fraction(t, 10)) for t in range(11)]
    return float(100 * sum(highest) / 11)


@pytest.mark.parametrize("there", [3, 10, 20, 30])
def test_recalls_are_compared_exactly(there: int) -> None:
    """Of ten pictures with a class a recall of exactly 3/10, 6/10 and 7/10 is reached."""
    generator = np.random.default_rng(there)
    for _ in range(30):
        positive = generator.permutation(2 * there) < there
        scores = generator.normal(size=2 * there).round(1) + 0.5 * positive
        for scale in (1, 3):
            found, _ = average_precisions(positive, scores, np.full((1, 2 * there), float(scale)))
            assert found[0] == pytest.approx(voc07(positive, scores), abs=1e-9)


def test_a_weight_of_two_is_the_picture_twice() -> None:
    generator = np.random.default_rng(0)
    positive, scores = generator.random(40) < 0.4, generator.normal(size=40)
    counts = generator.integers(1, 4, size=40)
    weighted = average_precisions(positive, scores, counts[None].astype(float))
    repeated = average_precisions(
        np.repeat(positive, counts), np.repeat(scores, counts), np.ones((1, counts.sum()))
    )
    np.testing.assert_allclose(weighted[0], repeated[0], rtol=1e-12)


def test_separable_scores_give_100_and_reversed_ones_little() -> None:
    made = outcome()
    perfect = MultiLabelScores(
        made.names, made.labels, made.labels[:, None].astype(np.float32), np.ones((1, 3))
    )
    assert perfect.head(0).score == pytest.approx(100)
    assert perfect.head(0).scores["map_area"] == pytest.approx(100)
    assert perfect.interval([0]) == pytest.approx((100, 100))
    bad = MultiLabelScores(made.names, made.labels, -perfect.scores, perfect.costs)
    assert bad.head(0).score < 50


def test_scores_of_left_out_pictures_do_not_matter() -> None:
    made = outcome()
    other = made.scores.copy()
    other[np.broadcast_to((made.labels == 0)[:, None], other.shape)] = 99
    changed = MultiLabelScores(made.names, made.labels, other, made.costs)
    assert changed.head(1) == made.head(1)
    flipped = np.where(made.labels == 0, 1, made.labels).astype(np.int8)
    assert MultiLabelScores(made.names, flipped, other, made.costs).head(1) != made.head(1)


def test_classes_without_classifier_or_pictures_have_no_score() -> None:
    made = outcome()
    labels, scores = made.labels.copy(), made.scores.copy()
    labels[:, 0] = np.minimum(labels[:, 0], 0)
    scores[:, 0, 1] = np.nan
    found = MultiLabelScores(made.names, labels, scores, made.costs).head(0)
    assert found.by_class == (None, None, made.head(0).by_class[2])
    assert found.score == made.head(0).by_class[2]


def test_the_interval_holds_the_score() -> None:
    made = outcome()
    low, high = made.interval([0, 1])
    assert low < (made.head(0).score + made.head(1).score) / 2 < high
    assert 2 < high - low < 40
    assert made.interval([0, 1]) == (low, high)


def test_arrays_and_together() -> None:
    made = outcome()
    again = MultiLabelScores.from_arrays(made.to_arrays())
    assert again.head(1) == made.head(1) and again.names == made.names
    each = [MultiLabelScores.from_arrays(made.to_arrays([k])) for k in range(2)]
    joined = MultiLabelScores.together([each[0], None, each[1]])
    assert joined is not None and joined.head(2) == made.head(1)
    assert np.isnan(joined.scores[:, 1]).all() and joined.costs.shape == (3, 3)
    assert MultiLabelScores.together([None]) is None
