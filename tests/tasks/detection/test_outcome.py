from pathlib import Path

import numpy as np
import pytest

from tests.tasks.detection.test_metric import (
    CLASSES,
    bootstrap_interval,
    found,
    made,
    rectangle,
    there,
)
from vicregl_bench.errors import DataError
from vicregl_bench.records.arrays import read_arrays, write_arrays
from vicregl_bench.tasks.detection.metric import (
    Convention,
    Detections,
    GroundTruth,
    score,
)
from vicregl_bench.tasks.detection.outcome import DetectionOutcome

CONVENTIONS: list[Convention] = ["voc", "coco"]


def in_float32(detections: Detections) -> Detections:
    return Detections(
        detections.boxes.astype(np.float32).astype(np.float64),
        detections.scores.astype(np.float32).astype(np.float64),
        detections.labels,
        detections.masks,
    )


def outcome(heads: int = 3, pictures: int = 12, convention: Convention = "voc") -> DetectionOutcome:
    """Heads that displace boxes by ever more."""
    truth, detections = made(pictures)
    generator = np.random.default_rng(1)
    return DetectionOutcome(
        names=tuple(f"picture{i}" for i in range(pictures)),
        truth=tuple(truth),
        found=tuple(
            tuple(
                in_float32(
                    found(d.boxes + k * generator.normal(0, 4, d.boxes.shape), d.scores, d.labels)
                )
                for d in detections
            )
            for k in range(heads)
        ),
        classes=len(CLASSES),
        convention=convention,
        inclusive=convention == "voc",
    )


def masked(outlines: bool = True) -> DetectionOutcome:
    """Two heads on two pictures with masks, one of a crowd; the second picture is empty."""
    box, crowd = [0, 0, 100, 50], [100, 0, 200, 100]
    outline = [[0.0, 0.0, 100.0, 0.0, 100.0, 50.0, 0.0, 50.0]]
    uncompressed = {"size": [100, 200], "counts": [100 * 100, 100 * 100]}
    truth = GroundTruth(
        boxes=np.array([box, crowd], float),
        labels=np.zeros(2, np.int64),
        ignore=np.array([False, True]),
        masks=[outline if outlines else rectangle(*box), uncompressed],
        areas=np.array([4321.1, 10000.0]),
        size=(100, 200),
    )
    empty = GroundTruth(
        np.zeros((0, 4)), np.zeros(0, np.int64), np.zeros(0, bool), [], np.zeros(0), (80, 60)
    )
    widths = (100, 62)
    return DetectionOutcome(
        names=("a", "b"),
        truth=(truth, empty),
        found=tuple(
            (
                found(
                    [box, [110, 0, 130, 30]],
                    [0.5, 0.75],
                    masks=[rectangle(0, 0, width, 50), rectangle(110, 0, 130, 30)],
                ),
                found([], masks=[]),
            )
            for width in widths
        ),
        classes=3,
        convention="coco",
    )


def through_file(one: DetectionOutcome, path: Path) -> DetectionOutcome:
    write_arrays(path, one.to_arrays())
    return DetectionOutcome.from_arrays(read_arrays(path))


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_a_head_scores_as_its_detections(convention: Convention) -> None:
    one = outcome(convention=convention)
    for k in range(3):
        scores = score(
            one.truth, one.found[k], CLASSES, convention=convention, inclusive=one.inclusive
        )
        head = one.head(k)
        assert head.score == scores.main.ap
        assert head.scores == scores.named()
        assert head.by_class == tuple(scores.main.by_class[name] for name in CLASSES)
        assert one.head(k) is head  # scored once
    assert one.head(0).score > one.head(1).score > one.head(2).score


def test_perfect_boxes_score_100_and_have_no_interval_but_that() -> None:
    truth = made(10)[0]
    perfect = tuple(found(t.boxes, labels=t.labels) for t in truth)
    one = DetectionOutcome(
        tuple(map(str, range(10))), tuple(truth), (perfect,), len(CLASSES), "coco"
    )
    assert one.head(0).score == pytest.approx(100.0)
    assert one.interval([0]) == pytest.approx((100.0, 100.0))


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_scores_are_the_same_after_a_file(convention: Convention, tmp_path: Path) -> None:
    one = outcome(convention=convention)
    back = through_file(one, tmp_path / "o.npz")
    assert back.names == one.names
    assert (back.classes, back.convention, back.inclusive) == (3, convention, convention == "voc")
    for k in range(3):
        assert back.head(k) == one.head(k)
        for before, after in zip(one.found[k], back.found[k], strict=True):
            assert after.masks is None
            np.testing.assert_array_equal(after.boxes, before.boxes)
            np.testing.assert_array_equal(after.scores, before.scores)
            np.testing.assert_array_equal(after.labels, before.labels)
    for before, after in zip(one.truth, back.truth, strict=True):
        np.testing.assert_array_equal(after.boxes, before.boxes)  # not float32's
        np.testing.assert_array_equal(after.ignore, before.ignore)
        assert after.areas is None
    assert back.interval([1, 2]) == one.interval([1, 2])


@pytest.mark.parametrize("outlines", [True, False])
def test_masks_areas_and_crowds_pass_through_a_file(outlines: bool, tmp_path: Path) -> None:
    one = masked(outlines)
    back = through_file(one, tmp_path / "o.npz")
    assert one.head(0).scores["mask_ap"] == pytest.approx(100.0)
    assert one.head(1).scores["mask_ap"] == pytest.approx(30.0)
    assert one.head(0).scores["ap_medium"] == pytest.approx(100.0)  # by the area given
    for k in range(2):
        assert back.head(k) == one.head(k)
    assert back.truth[0].areas is not None
    assert back.truth[0].areas.tolist() == [4321.1, 10000.0]
    assert back.truth[1].masks == back.found[0][1].masks == []
    for name, array in one.to_arrays().items():
        np.testing.assert_array_equal(back.to_arrays()[name], array)
        assert array.dtype != object


def test_some_heads_alone() -> None:
    one = outcome()
    part = DetectionOutcome.from_arrays(one.to_arrays([2, 0]))
    assert len(part.found) == 2
    assert (part.head(0), part.head(1)) == (one.head(2), one.head(0))


def test_the_interval_is_that_of_the_mean_over_heads() -> None:
    one = outcome()
    low, high = one.interval([0, 1, 2])
    assert low < np.mean([one.head(k).score for k in range(3)]) < high
    assert one.interval([1, 1]) == one.interval([1]) != one.interval([2])
    heads = [list(one.found[k]) for k in (0, 2)]
    expected = bootstrap_interval(list(one.truth), heads, CLASSES, measure="voc", inclusive=True)
    assert one.interval([0, 2]) == pytest.approx(expected, abs=1e-9)


def test_runs_together_and_one_that_diverged() -> None:
    one = outcome()
    single = [DetectionOutcome.from_arrays(one.to_arrays([k])) for k in range(3)]
    together = DetectionOutcome.together([single[0], None, single[2]])
    assert together is not None
    assert together.names == one.names
    assert (together.head(0), together.head(2)) == (one.head(0), one.head(2))
    assert together.head(1).score == 0.0
    assert DetectionOutcome.together([None, None]) is None
    first = DetectionOutcome.from_arrays(masked().to_arrays([0]))
    together = DetectionOutcome.together([None, first])
    assert together is not None
    assert together.head(0).scores["mask_ap"] == 0.0
    assert together.head(1) == masked().head(0)


def test_what_does_not_fit_is_refused() -> None:
    one = outcome(heads=1, pictures=3)
    with pytest.raises(ValueError, match="2 names of 3 pictures"):
        DetectionOutcome(("a", "b"), one.truth, one.found, 3, "voc")
    with pytest.raises(ValueError, match="some pictures have masks"):
        DetectionOutcome(("a", "b"), (masked().truth[0], there([])), (), 3, "coco")
    arrays = one.to_arrays()
    for name in ("truth_boxes", "found_scores", "names", "heads"):
        with pytest.raises(KeyError):
            DetectionOutcome.from_arrays({k: v for k, v in arrays.items() if k != name})
    for change in (
        {"heads": np.array(2)},
        {"convention": np.array("other")},
        {"found_scores": arrays["found_scores"][:-1]},
        {"names": arrays["names"][:-1]},
    ):
        with pytest.raises(ValueError):
            DetectionOutcome.from_arrays(arrays | change)


def test_nothing_that_counts_has_no_score() -> None:
    truth = there([[0, 0, 9, 9]], ignore=[True])
    one = DetectionOutcome(("a",), (truth,), ((found([]),),), 3, "voc")
    with pytest.raises(DataError, match="none of 1 pictures has an object that counts"):
        one.head(0)
    with pytest.raises(DataError, match="none of 1 pictures"):
        one.interval([0])
