"""Two records of one task: the paired bootstrap, what is called real, and what is refused."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from mmdet.evaluation.functional.mean_ap import tpfp_default
from scipy.stats import ttest_rel  # type: ignore[import-untyped]

from tests.made_record import changed, make_record
from tests.tasks.detection.test_metric import made, rectangle
from tests.tasks.detection.test_outcome import masked
from vicregl_bench.errors import ConfigError, RecordError
from vicregl_bench.records import write_record
from vicregl_bench.records.arrays import write_arrays
from vicregl_bench.tasks.classification.multi_label_outcome import MultiLabelScores
from vicregl_bench.tasks.classification.outcome import LabelRanks
from vicregl_bench.tasks.compare import ClassDifference, Comparison, compare
from vicregl_bench.tasks.correspondence.outcome import MatchShares
from vicregl_bench.tasks.detection.metric import IOU_THRESHOLDS, _match_picture, score
from vicregl_bench.tasks.detection.outcome import DetectionOutcome
from vicregl_bench.tasks.interval import bayesian_weights, class_means
from vicregl_bench.tasks.outcome import Outcome
from vicregl_bench.tasks.paired import holm, pair, seed_variance, with_seeds
from vicregl_bench.tasks.segmentation.outcome import PictureAreas

Array = npt.NDArray[Any]
METRICS = {
    PictureAreas: "miou",
    LabelRanks: "top1",
    MultiLabelScores: "map",
    MatchShares: "match_accuracy",
    DetectionOutcome: "ap",
}


def names(count: int) -> tuple[str, ...]:
    return tuple(f"p{i:03d}" for i in range(count))


def ranks(right: Array, labels: Array | None = None, classes: int = 2) -> LabelRanks:
    """Pictures that are right (N,) or (N, K), of alternating classes."""
    right = np.asarray(right).reshape(len(right), -1)
    given = np.arange(len(right)) % 2 if labels is None else labels
    return LabelRanks(names(len(right)), given, np.where(right, 0, 7), classes)


def areas(seed: int, heads: int = 2, count: int = 9) -> PictureAreas:
    labelled = np.random.default_rng(0).integers(0, 60, (count, 4))
    labelled[:, 3] = 0  # a class that is not there
    generator = np.random.default_rng(seed)
    share = generator.uniform(0.2, 0.9, (count, heads, 4))
    intersect = (labelled[:, None] * share).astype(np.int64)
    predicted = intersect + generator.integers(0, 9, intersect.shape) * (np.arange(4) < 3)
    return PictureAreas(names(count), intersect, predicted, labelled)


def multi_label(seed: int, heads: int = 2, count: int = 10) -> MultiLabelScores:
    labels = np.random.default_rng(0).choice([-1, -1, 0, 1], (count, 3)).astype(np.int8)
    labels[0], labels[:, 2] = 1, -1  # a class that is not there
    scores = np.random.default_rng(seed).normal(size=(count, heads, 3)).astype(np.float32)
    return MultiLabelScores(names(count), labels, scores, np.ones((heads, 3)))


def shares(seed: int, heads: int = 2, count: int = 8) -> MatchShares:
    generator = np.random.default_rng(seed)
    right, error, mirrored = generator.random((3, count, heads))
    mirrored[:3] = np.nan
    return MatchShares(names(count), np.arange(count) % 2, right, error, mirrored, 49, 3)


def detections(seed: int, heads: int = 2, count: int = 8) -> DetectionOutcome:
    truth, found = made(count)
    generator = np.random.default_rng(seed)
    moved = tuple(
        tuple(
            replace(one, boxes=one.boxes + generator.normal(0, 3, one.boxes.shape)) for one in found
        )
        for _ in range(heads)
    )
    return DetectionOutcome(names(count), tuple(truth), moved, 4, "voc")


def miou(outcome: PictureAreas, k: int, weights: Array) -> float:
    """Intersection over union of weighted pixels, a class at a time."""
    scores = []
    for c in range(3):
        both, seen, there = (
            float(np.dot(weights, area[:, c]))
            for area in (outcome.intersect[:, k], outcome.predicted[:, k], outcome.labelled)
        )
        scores.append(both / (seen + there - both))
    return 100 * float(np.mean(scores))


def top1(outcome: LabelRanks, k: int, weights: Array) -> float:
    return 100 * float(np.average(outcome.ranks[:, k] == 0, weights=weights))


def mean_ap(outcome: MultiLabelScores, k: int, weights: Array) -> float:
    """11 points, a loop over recalls and ranks."""
    by_class = []
    for c in range(2):
        counts = outcome.labels[:, c] != 0
        order = np.argsort(-outcome.scores[counts, k, c], kind="stable")
        positive, w = (outcome.labels[counts, c] == 1)[order], weights[counts][order]
        recall = [w[: i + 1][positive[: i + 1]].sum() / w[positive].sum() for i in range(len(w))]
        precision = [w[: i + 1][positive[: i + 1]].sum() / w[: i + 1].sum() for i in range(len(w))]
        points = [
            max(p for p, r in zip(precision, recall, strict=True) if r >= asked - 1e-9)
            for asked in np.arange(11) / 10
        ]
        by_class.append(np.mean(points))
    return 100 * float(np.mean(by_class))


def accuracy(outcome: MatchShares, k: int, weights: Array) -> float:
    return 100 * float(np.average(outcome.right[:, k], weights=weights))


CASES: list[tuple[Callable[[int], Any], Callable[[Any, int, Array], float]]] = [
    (areas, miou),
    (lambda seed: ranks(np.random.default_rng(seed).random((9, 2)) < 0.5), top1),
    (multi_label, mean_ap),
    (shares, accuracy),
]


@pytest.mark.parametrize(("make", "peer"), CASES, ids=["areas", "ranks", "multi_label", "shares"])
def test_the_paired_interval_is_that_of_directly_computed_differences(
    make: Callable[[int], Outcome], peer: Callable[[Any, int, Array], float]
) -> None:
    a, b = make(1), make(2)
    weights = np.concatenate(list(bayesian_weights(len(a.names))))
    assert weights.shape == (1000, len(a.names))
    direct = [
        np.mean([peer(b, k, w) for k in (0, 1)]) - np.mean([peer(a, k, w) for k in (0, 1)])
        for w in weights
    ]
    whole, _ = pair((a, [0, 1]), (b, [0, 1]))
    assert (whole.low, whole.high) == pytest.approx(np.percentile(direct, [2.5, 97.5]), abs=1e-9)
    assert whole.above == np.mean(np.array(direct) > 0)
    once = np.ones(len(a.names))
    assert whole.b == pytest.approx(np.mean([peer(b, k, once) for k in (0, 1)]), abs=1e-9)


@pytest.mark.parametrize("convention", ["voc", "coco"])
def test_whole_weights_of_detections_are_repeated_pictures(convention: Any) -> None:
    outcome = replace(detections(1), convention=convention)
    generator = np.random.default_rng(0)
    for counts in generator.multinomial(8, [1 / 8] * 8, size=3):
        index = np.repeat(np.arange(8), counts)
        scores = score(
            [outcome.truth[i] for i in index],
            [outcome.found[1][i] for i in index],
            tuple("abcd"),
            convention=convention,
        ).main
        for factor in (1.0, 0.37):  # AP is of proportions
            found = outcome.weighted([1], factor * counts[None])[0]
            assert found[0] == pytest.approx(scores.ap, abs=1e-9)
            by_class = [np.nan if v is None else v for v in scores.by_class.values()]
            assert found[1:] == pytest.approx(by_class, abs=1e-9, nan_ok=True)
            assert outcome.weighted([1], factor * counts[None], "ap50")[0, 0] == pytest.approx(
                scores.ap50, abs=1e-9
            )


def test_all_objects_found_is_100_under_any_weights() -> None:
    truth, _ = made(12)
    found = tuple(
        replace(one, boxes=t.boxes, scores=np.linspace(0.9, 0.5, len(t.boxes)), labels=t.labels)
        for one, t in zip(made(12)[1], truth, strict=True)
    )
    outcome = DetectionOutcome(names(12), tuple(truth), (found,), 3, "voc")
    assert outcome.draws([0], bayesian_weights(12)) == pytest.approx(100.0)


def test_detections_match_as_mmdets_with_equal_overlaps_and_ignored_objects() -> None:
    generator = np.random.default_rng(0)
    for _ in range(300):
        n, m = generator.integers(1, 9), generator.integers(0, 5)
        corners = generator.integers(0, 4, (n + m, 2)) * 5.0
        boxes = np.hstack([corners, corners + generator.integers(1, 4, (n + m, 2)) * 10.0])
        scores, ignore = generator.permutation(n) / 10.0, generator.random(m) < 0.4
        objects = boxes[n:]
        hits, misses = _match_picture(boxes[:n], scores, objects, ignore, inclusive=False)
        for t, threshold in enumerate(IOU_THRESHOLDS):
            hit, missed = tpfp_default(
                np.column_stack([boxes[:n], scores]),
                objects[~ignore],
                objects[ignore],
                iou_thr=threshold,
            )
            assert (hits[t] == hit[0]).all()
            assert (misses[t] == missed[0]).all()


@pytest.mark.parametrize(
    "outcome",
    [
        areas(1),
        ranks(np.arange(12).reshape(6, 2) % 3 == 0),
        multi_label(1),
        shares(1),
        detections(1),
    ],
    ids=lambda one: type(one).__name__,
)
def test_weights_of_one_give_the_scores_and_order_does_not_matter(outcome: Outcome) -> None:
    head, once = outcome.head(1), np.ones((1, len(outcome.names)))
    for metric in outcome.metrics:
        expected = head.scores[metric]
        assert outcome.weighted([1], once, metric)[0, 0] == pytest.approx(expected, abs=1e-9)
    by_class = [np.nan if value is None else value for value in head.by_class]
    assert outcome.weighted([1], once)[0, 1:] == pytest.approx(by_class, abs=1e-9, nan_ok=True)
    assert any(np.isnan(by_class)) or isinstance(outcome, LabelRanks)
    order = np.random.default_rng(0).permutation(len(outcome.names)).tolist()
    other = outcome.reordered(order)
    assert other.names == tuple(outcome.names[i] for i in order)
    weights = next(iter(bayesian_weights(len(order))))
    for metric in outcome.metrics:
        assert other.weighted([0, 1], weights[:, order], metric) == pytest.approx(
            outcome.weighted([0, 1], weights, metric), abs=1e-9, nan_ok=True
        )
    assert (other.class_pictures() == outcome.class_pictures()).all()
    with pytest.raises(ValueError, match="none of"):
        outcome.weighted([0], once, "no_such")


def test_blocks_of_weights_are_one_stream() -> None:
    whole = np.random.default_rng(0).exponential(size=(1000, 3000))
    blocks = list(bayesian_weights(3000))
    assert len(blocks) > 1
    assert (np.concatenate(blocks) == whole).all()
    assert whole[0] / whole[0].sum() == pytest.approx(
        np.random.default_rng(0).dirichlet(np.ones(3000)), rel=1e-12
    )


def test_class_means_leave_out_classes_without_pictures() -> None:
    means = class_means(
        np.array([1.0, 2.0, 5.0]), np.array([2, 0, 2]), 4, np.array([[1.0, 1.0, 3.0]])
    )
    assert means == pytest.approx(np.array([[2.0, np.nan, 4.0, np.nan]]), nan_ok=True)


def test_pairing_narrows_the_interval_of_correlated_outcomes() -> None:
    generator = np.random.default_rng(0)
    right = generator.random(400) < 0.5
    better = right.copy()
    better[np.flatnonzero(~right)[:16]] = True  # right wherever A is, and on 16 more
    a, b = ranks(right), ranks(better)
    whole, _ = pair((a, [0]), (b, [0]))
    assert whole.difference == pytest.approx(4.0)
    # standard error of 16 ones in 400, and of two independent shares near a half
    assert whole.high - whole.low == pytest.approx(3.92 * 100 * (0.04 * 0.96 / 400) ** 0.5, rel=0.1)
    alone = [one.interval([0]) for one in (a, b)]
    assert all(high - low > 2.2 * (whole.high - whole.low) for low, high in alone)
    shuffled, _ = pair((a, [0]), (ranks(generator.permutation(better)), [0]))
    assert shuffled.high - shuffled.low > 3 * (whole.high - whole.low)
    assert shuffled.low < 0 < whole.low


def test_the_variance_of_seeds_adds_to_that_of_pictures() -> None:
    generator = np.random.default_rng(0)
    whole, _ = pair(
        (ranks(generator.random(50) < 0.3), [0]), (ranks(generator.random(50) < 0.8), [0])
    )
    parts = seed_variance([50.0, 52.0, 54.0], [70.0, 70.0, 73.0])
    assert parts == (pytest.approx((4 / 3, 2)), pytest.approx((1.0, 2)))
    # one seed of B: A's spread stands for it
    assert seed_variance([50.0, 52.0, 54.0], [70.0]) == (pytest.approx((4 * (1 / 3 + 1), 2)),)
    assert seed_variance([50.0], [70.0]) == ()
    low, high = with_seeds(replace(whole, error=0.0), parts)
    # Welch by hand: (4/3 + 1)^2 / ((16/9 + 1) / 2) degrees, t of 3.92 is 2.80
    assert high - low == pytest.approx(2 * 2.8 * (7 / 3) ** 0.5, rel=0.005)
    assert (low + high) / 2 == pytest.approx(whole.difference)


def test_holm_by_hand() -> None:
    assert holm([0.04, 0.001, 0.02, 0.9]) == (False, True, False, False)
    assert holm([0.012, 0.0125, 0.016, 0.05]) == (True, True, True, True)
    assert holm([]) == ()


def test_real_is_rarely_said_where_nothing_differs() -> None:
    """200 pairs of classifiers equally good on 40 pictures: about one in twenty."""
    generator = np.random.default_rng(7)
    said = 0
    for _ in range(200):
        hard = generator.random(40)
        a, b = (ranks(generator.random(40) < 0.3 + 0.5 * hard) for _ in range(2))
        whole, _ = pair((a, [0]), (b, [0]))
        low, high = with_seeds(whole, ())
        said += whole.excludes_zero and (low > 0 or high < 0)
    assert 1 <= said <= 20


def of_floats(values: Array, labels: Array, classes: int) -> MatchShares:
    """Outcomes whose scores are the means of given numbers (N,), over all and by class."""
    nothing = np.full((len(values), 1), np.nan)
    return MatchShares(names(len(values)), labels, values[:, None], nothing, nothing, 49, classes)


@pytest.mark.parametrize("count", [10, 200])
def test_error_and_p_are_those_of_a_paired_t_test(count: int) -> None:
    classes = 4000 // count
    labels = np.arange(4000) % classes
    a, b = np.random.default_rng(1).normal(0.5, 0.1, (2, 4000))
    _, by_class = pair(*((of_floats(one, labels, classes), [0]) for one in (a, b)))
    own = [(one.error, one.p) for one in by_class if one is not None]
    errors, p = np.array(own).T
    differences = (b - a).reshape(count, classes)
    expected = 100 * differences.std(axis=0, ddof=1) / count**0.5
    # 1,000 draws give a standard error to 2.2 %; pictures of one class share none with another's
    assert errors == pytest.approx(expected, rel=0.09)
    assert np.mean(errors / expected) == pytest.approx(1, abs=0.015 if count == 10 else 0.01)
    peer = ttest_rel(*(one.reshape(count, classes) for one in (b, a))).pvalue
    assert p == pytest.approx(peer, abs=0.03)
    assert np.mean(p - peer) == pytest.approx(0, abs=0.005)


@pytest.mark.parametrize("count", [6, 8, 10])
def test_few_classes_are_marked_where_nothing_differs(count: int) -> None:
    """Of 1,200 small classes about one in twenty; by the bootstrap alone more than one in ten."""
    labels = np.arange(400 * count) % 400
    marked = narrow = 0
    for seed in range(3):
        a, b = np.random.default_rng(seed).normal(0.5, 0.1, (2, len(labels)))
        _, by_class = pair(*((of_floats(one, labels, 400), [0]) for one in (a, b)))
        every = [ClassDifference("", count, one) for one in by_class]
        marked += sum(one.marked for one in every)
        narrow += sum(one.paired is not None and one.paired.excludes_zero for one in every)
    assert 0.03 <= marked / 1200 <= 0.07
    assert narrow / 1200 > 0.09


def class_scores(outcome: Outcome, heads: slice = slice(None)) -> dict[str, float | None]:
    """Of each class the mean over some heads; None where it has none."""
    chosen = [outcome.head(k).by_class for k in range(outcome.heads)][heads]
    means = np.array(chosen, dtype=float).mean(axis=0)
    return {f"class{c}": None if np.isnan(one) else float(one) for c, one in enumerate(means)}


def kept(folder: Path, name: str, outcome: Outcome, **changes: Any) -> Path:
    """Write a record whose best point's heads are those of an outcome, and its file of pictures."""
    heads = [outcome.head(k) for k in range(outcome.heads)]
    scores = [one.score for one in heads]
    file = f"{name}.pictures.npz"
    record = make_record(
        name=f"{name}.pth",
        task={
            "name": "some_task",
            "settings": {"sweep": {"seeds": len(heads)}, "schedule": {"iters": 7}},
            "metric": METRICS[type(outcome)],
        },
        key=(name * 64)[:64],
        checkpoint={"arch": "resnet50", "weights_sha256": name * 8},
        data={"val": len(outcome.names)},
        results=[
            {"lr": 0.1, "seed": k, "score": one.score, "scores": dict(one.scores)}
            for k, one in enumerate(heads)
        ],
        best={
            "score": float(np.mean(scores)),
            "std": float(np.std(scores)),
            "seeds": len(heads),
            "interval": [0.0, 100.0],
            "scores": {},
            "by_class": class_scores(outcome),
        },
        pictures_file=file,
    )
    write_arrays(folder / file, outcome.to_arrays())
    return write_record(folder, changed(record, **changes))


def compared(folder: Path, a: Outcome, b: Outcome, **changes: Any) -> Comparison:
    return compare(kept(folder, "a", a), kept(folder, "b", b, **changes))


@pytest.mark.parametrize("make", [areas, multi_label, shares, detections])
def test_identical_outcomes_do_not_differ(tmp_path: Path, make: Callable[[int], Outcome]) -> None:
    found = compared(tmp_path, make(1), make(1))
    assert (found.whole.difference, found.whole.low, found.whole.high) == (0, 0, 0)
    assert not found.real
    assert found.whole.above == 0.5
    assert all(one.paired is None or one.paired.p == 1 for one in found.classes)
    assert found.warnings == ()


def test_all_right_against_random_is_real_with_the_known_difference(tmp_path: Path) -> None:
    right = np.arange(60) % 4 == 0
    found = compared(tmp_path, ranks(right), ranks(np.ones(60)))
    assert found.real
    assert found.whole.difference == 75.0
    assert found.verdict.startswith("B is better by 75.0 points (95 % ")
    assert "over 60 pictures): real over pictures; of one seed each" in found.verdict
    # class 1 of the odd pictures was never right
    assert [(one.name, one.paired and one.paired.difference) for one in found.classes] == [
        ("class1", 100.0),
        ("class0", 50.0),
    ]
    assert all(one.survives for one in found.classes)
    assert found.by_chance == pytest.approx(0.1)


def test_few_pictures_tell_nothing(tmp_path: Path) -> None:
    found = compared(tmp_path, ranks(np.zeros(5)), ranks(np.ones(5)))
    assert not found.real
    assert found.verdict.startswith("no difference that these 5 pictures can tell: +100.0")
    assert found.tested == 0
    assert compared(tmp_path, ranks(np.zeros(6)), ranks(np.ones(6))).real


def test_a_difference_within_the_spread_over_seeds_is_not_real(tmp_path: Path) -> None:
    def seeds(*shares: float) -> LabelRanks:
        return ranks(np.arange(400)[:, None] < 400 * np.array(shares))

    apart = compared(tmp_path, seeds(0.3, 0.5, 0.7), seeds(0.5, 0.6, 0.8))
    assert apart.whole.low > 0
    assert not apart.real
    assert apart.seeded is not None and apart.seeded[0] < 0 < apart.seeded[1]
    assert "not beyond the spread over seeds" in apart.verdict
    assert apart.seeds_a == pytest.approx((30, 50, 70))
    close = compared(tmp_path, seeds(0.49, 0.5, 0.51), seeds(0.62, 0.63, 0.65))
    assert close.real
    assert close.whole.difference == pytest.approx(apart.whole.difference)
    assert close.seeded is not None
    half = (close.seeded[1] - close.seeded[0]) / 2
    assert f"over 400 pictures; ± {half:.1f} over pictures and seeds): real" in close.verdict
    assert close.verdict.count("95 %") == 1


def test_pictures_are_aligned_by_name(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    a, b = ranks(generator.random(40) < 0.5), ranks(generator.random(40) < 0.6)
    order = generator.permutation(40).tolist()
    plain, mixed = compared(tmp_path, a, b), compared(tmp_path, a, b.reordered(order))
    assert mixed.whole == plain.whole
    assert mixed.classes == plain.classes


def test_a_class_without_pictures_is_missing(tmp_path: Path) -> None:
    found = compared(tmp_path, areas(1), areas(2))
    assert (found.classes[-1].name, found.classes[-1].paired) == ("class3", None)
    differences = [one.paired.difference for one in found.classes if one.paired is not None]
    assert differences == sorted(differences, reverse=True)


def test_of_all_kept_heads_the_best_points_are_compared(tmp_path: Path) -> None:
    outcome = areas(1, heads=4)
    grid = [(0.1, 0), (0.1, 1), (0.2, 0), (0.2, 1)]
    scores = [outcome.head(k).score for k in range(4)]
    chosen = kept(
        tmp_path,
        "b",
        outcome,
        results=[
            {"lr": lr, "seed": s, "score": v} for (lr, s), v in zip(grid, scores, strict=True)
        ],
        best={
            "lr": 0.2,
            "seeds": 2,
            "score": float(np.mean(scores[2:])),
            "by_class": class_scores(outcome, slice(2, 4)),
        },
    )
    found = compare(kept(tmp_path, "a", areas(2)), chosen)
    assert found.seeds_b == pytest.approx(scores[2:])
    assert found.whole.b == pytest.approx(np.mean(scores[2:]))


def test_another_metric_may_be_asked_for(tmp_path: Path) -> None:
    a, b = (kept(tmp_path, name, shares(k)) for k, name in enumerate("ab"))
    found = compare(a, b, "distance_error")
    assert found.whole.b == pytest.approx(100 * shares(1).error.mean())
    with pytest.raises(ConfigError, match=r"no 'miou' .*match_accuracy, mirrored_accuracy"):
        compare(a, b, "miou")


def test_a_smaller_distance_error_is_better(tmp_path: Path) -> None:
    far, near = shares(1, 1, 40), shares(1, 1, 40)
    near = replace(near, error=0.1 * near.error)
    a, b = kept(tmp_path, "a", far), kept(tmp_path, "b", near)
    found = compare(a, b, "distance_error")
    assert found.whole.high < 0
    assert found.real
    assert found.verdict.startswith("B is better by ")


RIGHT = np.arange(20) % 3 > 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"task": {"name": "other"}}, "records of other tasks .*: some_task and other"),
        ({"task": {"version": 2}}, "other versions of the protocol .*: v1 and v2"),
        ({"task": {"metric": "mean_per_class"}}, "records of other metrics"),
        ({"best": None, "status": "diverged"}, r"its status is diverged; .* smaller .*\(--lrs\)"),
        ({"pictures_file": None}, "keeps nothing of its pictures"),
        ({"pictures_file": "../a.pictures.npz"}, "not beside it"),
        ({"pictures_file": "none.npz"}, "none.npz is missing"),
        ({"best": {"score": 12.0}}, "gives 65.00, the record says 12.00"),
        ({"best": {"by_class": {"x": 1.0}}}, "is of 2 classes, its record of 1"),
        ({"best": {"by_class": {"x": 60.0, "y": 70.0}}}, "are of other classes"),
        (
            {"best": {"by_class": {"class0": 61.0, "class1": 69.0}}},  # the mean is the same
            "of class0 it gives 60.00, the record says 61.00",
        ),
        (
            {"best": {"by_class": {"class0": 60.0, "class1": None}}},
            "of class1 it gives 70.00, the record says none",
        ),
        ({"best": {"seeds": 3}, "results": []}, "is of 1 heads, its record of 0, 3 of them"),
    ],
)
def test_records_that_do_not_compare_are_refused(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(RecordError, match=message) as caught:
        compared(tmp_path, ranks(RIGHT), ranks(RIGHT), **changes)
    assert "\n" not in str(caught.value)


def test_other_pictures_or_labels_are_refused(tmp_path: Path) -> None:
    one = ranks(RIGHT)
    more = ranks(np.append(RIGHT, True))
    with pytest.raises(RecordError, match=r"0 are in the first alone and 1 in the second.*p020"):
        compared(tmp_path, one, more)
    renamed = replace(one, names=("x", *one.names[1:]))
    with pytest.raises(RecordError, match="1 are in the first alone and 1 in the second"):
        compared(tmp_path, one, renamed)
    with pytest.raises(RecordError, match=r"with other labels \(labels\)"):
        compared(tmp_path, one, replace(one, labels=1 - one.labels))
    twice = replace(one, names=("p001", *one.names[1:]))
    with pytest.raises(RecordError, match="some of one name"):
        compared(tmp_path, twice, twice.reordered(range(20)[::-1]))
    boxes = detections(1)
    moved = replace(boxes.truth[0], boxes=boxes.truth[0].boxes + 1)
    with pytest.raises(RecordError, match=r"with other labels \(truth_boxes\)"):
        compared(tmp_path, boxes, replace(boxes, truth=(moved, *boxes.truth[1:])))


def test_other_masks_are_other_labels(tmp_path: Path) -> None:
    one = masked()
    first = one.truth[0]
    assert first.masks is not None
    narrow = replace(first, masks=[rectangle(0, 0, 90, 50), *first.masks[1:]])
    other = replace(one, truth=(narrow, *one.truth[1:]))
    a, b = (kept(tmp_path, name, made) for name, made in (("a", one), ("b", other)))
    for metric in ("mask_ap", None):
        with pytest.raises(RecordError, match=r"with other labels \(truth_mask_"):
            compare(a, b, metric)
    assert compare(a, kept(tmp_path, "c", one), "mask_ap").whole.difference == 0


def test_a_difference_too_small_to_matter_is_told(tmp_path: Path) -> None:
    right = np.random.default_rng(0).random(8000) < 0.5
    for more, little in ((10, True), (24, False)):
        better = right.copy()
        better[np.flatnonzero(~right)[:more]] = True
        found = compared(tmp_path, ranks(right), ranks(better))
        assert found.real
        assert found.verdict.startswith(f"B is better by {more / 80:.2f} points (95 % ")
        assert found.verdict.endswith("; below 0.2 points, too small to matter") == little


def test_the_same_file_twice_is_refused_and_a_copy_is_told(tmp_path: Path) -> None:
    path = kept(tmp_path, "a", ranks(RIGHT))
    with pytest.raises(RecordError, match="are the same file"):
        compare(path, tmp_path / "." / path.name)
    copy = tmp_path / "copy.json"
    copy.write_text(path.read_text())
    assert compare(path, copy).warnings == ("both records are of one run (equal keys)",)
    with pytest.raises(RecordError, match="cannot read record"):
        compare(path, tmp_path / "none.json")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda arrays: arrays.pop("ranks"), "it has no 'ranks'"),
        (lambda arrays: arrays.update(ranks=arrays["ranks"][1:]), r"ranks is of shape \(19, 1\)"),
        (lambda arrays: arrays.update(labels=arrays["labels"] + 5), "a label is outside"),
        (lambda arrays: arrays.update(labels=np.array(["x"] * 20)), "not what some_task keeps"),
    ],
)
def test_a_file_of_another_shape_is_refused(
    tmp_path: Path, spoil: Callable[[dict[str, Any]], Any], message: str
) -> None:
    a, b = (kept(tmp_path, name, ranks(RIGHT)) for name in "ab")
    arrays = ranks(RIGHT).to_arrays()
    spoil(arrays)
    write_arrays(tmp_path / "b.pictures.npz", arrays)
    with pytest.raises(RecordError, match=message):
        compare(a, b)


@pytest.mark.parametrize("name", ["truth_labels", "found_labels"])
@pytest.mark.parametrize("label", [4, -1])
def test_detections_with_a_label_outside_are_refused(tmp_path: Path, name: str, label: int) -> None:
    a, b = (kept(tmp_path, name, detections(1)) for name in "ab")
    arrays = detections(1).to_arrays()
    arrays[name][0] = label
    write_arrays(tmp_path / "b.pictures.npz", arrays)
    with pytest.raises(RecordError, match=r"not what some_task keeps .*outside 0 \.\.\. 3"):
        compare(a, b)


def test_a_half_written_file_is_refused(tmp_path: Path) -> None:
    a, b = (kept(tmp_path, name, ranks(RIGHT)) for name in "ab")
    file = tmp_path / "b.pictures.npz"
    file.write_bytes(file.read_bytes()[:-200])
    with pytest.raises(RecordError, match="damaged, half-written"):
        compare(a, b)
    b.write_text(b.read_text()[:-50])
    with pytest.raises(RecordError, match="damaged or half-written"):
        compare(a, b)


@pytest.mark.parametrize(
    ("changes", "warning"),
    [
        ({"task": {"profile": "paper"}}, "other profile: ci (A) and paper (B)"),
        ({"task": {"preset": "x"}}, "other preset: none (A) and x (B)"),
        (
            {"task": {"select": "holdout"}},
            "other choice of the best point: val (A) and holdout (B)",
        ),
        (
            {"task": {"settings": {"sweep": {"seeds": 1}, "schedule": {"iters": 9}}}},
            "other settings: schedule.iters 7 (A) and 9 (B)",
        ),
        ({"deviations": ["half"]}, "B alone deviates from its protocol: half"),
        ({"command": "run --engine detectron2"}, "other engine: mmdet (A) and detectron2 (B)"),
        ({"environment": {"precision": "bf16"}}, "other precision: fp32 (A) and bf16 (B)"),
        (
            {"data": {"fingerprint": "g"}},
            "other data: the val pictures are equal by name and label, the rest is not",
        ),
        (
            {"data": {"fingerprint": "g", "fingerprint_kind": "names+sizes"}},
            "fingerprints of the data are of content (A) and names+sizes (B): whether the training "
            "data are equal is not known",
        ),
    ],
)
def test_other_conditions_are_warned_of(
    tmp_path: Path, changes: dict[str, Any], warning: str
) -> None:
    found = compared(tmp_path, ranks(RIGHT), ranks(RIGHT), **changes)
    assert found.warnings == (warning,)
