from typing import Any

import numpy as np
import pytest
import torch
from mmseg.evaluation import IoUMetric

from vicregl_bench.data import CLASSES
from vicregl_bench.tasks.segmentation.metric import SweepIoUMetric
from vicregl_bench.tasks.segmentation.outcome import PictureAreas, iou_percent


def samples(pictures: int, heads: int) -> list[dict[str, Any]]:
    generator = torch.Generator().manual_seed(0)
    made = []
    for i in range(pictures):
        truth = torch.randint(0, 6, (1, 20, 30 + i), generator=generator)
        truth[:, :2] = 255
        noise = torch.randint(0, 6, (heads, 20, 30 + i), generator=generator)
        keep = torch.rand(heads, 20, 30 + i, generator=generator) < 0.6
        made.append(
            {
                "img_path": f"folder/{i}.jpg",
                "gt_sem_seg": {"data": truth},
                "pred_sem_seg": {"data": torch.where(keep, truth % 255, noise).to(torch.uint8)},
            }
        )
    return made


def evaluated(made: list[dict[str, Any]], **kwargs: Any) -> SweepIoUMetric:
    metric = SweepIoUMetric(**kwargs)
    metric.dataset_meta = {"classes": CLASSES}
    metric.process({}, made)
    metric.evaluate(len(made))
    return metric


def test_every_head_equals_mmsegs_metric() -> None:
    made = samples(3, 4)
    metric = evaluated(made)
    assert metric.outcome is not None
    for k in range(4):
        peer = IoUMetric()
        peer.dataset_meta = {"classes": CLASSES}
        single = [{**s, "pred_sem_seg": {"data": s["pred_sem_seg"]["data"][k]}} for s in made]
        peer.process({}, single)
        scores = peer.evaluate(3)
        # mmseg rounds to two decimals
        assert np.nanmean(metric.outcome.iou()[k]) == pytest.approx(scores["mIoU"], abs=0.006)
        assert metric.outcome.pixel_accuracy()[k] == pytest.approx(scores["aAcc"], abs=0.006)


def test_areas_are_kept_per_picture_and_wanted_predictions_whole() -> None:
    made = samples(3, 2)
    metric = evaluated(made, keep=["folder/1.jpg"])
    assert metric.outcome is not None
    assert metric.outcome.names == ("0.jpg", "1.jpg", "2.jpg")
    assert metric.outcome.labelled.sum(1).tolist() == [18 * 30, 18 * 31, 18 * 32]
    assert metric.outcome.predicted.sum(2).tolist() == [[18 * w] * 2 for w in (30, 31, 32)]
    assert [list(one) for one in metric.kept] == [["1"]] * len(metric.kept)
    assert np.array_equal(
        np.stack([one["1"] for one in metric.kept]), made[1]["pred_sem_seg"]["data"].numpy()
    )


def test_iou_by_hand() -> None:
    iou = iou_percent(np.array([[3, 0, 0]]), np.array([[4, 1, 0]]), np.array([5, 0, 0]))
    assert iou[0, 0] == pytest.approx(100 * 3 / 6)
    assert iou[0, 1] == 0.0
    assert np.isnan(iou[0, 2])


def test_bootstrap_brackets_the_score_and_shrinks_with_pictures() -> None:
    generator = np.random.default_rng(0)

    def areas(count: int) -> PictureAreas:
        labelled = generator.integers(50, 100, (count, 3))
        intersect = (labelled[:, None] * generator.uniform(0.3, 0.9, (count, 2, 3))).astype(int)
        return PictureAreas(tuple(map(str, range(count))), intersect, intersect + 5, labelled)

    few, many = areas(10), areas(400)
    widths = []
    for a in (few, many):
        low, high = a.interval([0, 1])
        assert low < np.nanmean(a.iou()) < high
        widths.append(high - low)
    assert widths[1] < widths[0] / 3
    assert few.interval([0, 1]) == few.interval([0, 1])


def test_bootstrap_keeps_rare_classes() -> None:
    """A class of one picture, never found, counts in every resample."""
    labelled = np.array([[90, 10]] + [[100, 0]] * 9)
    found = np.array([[90, 0]] + [[100, 0]] * 9)
    areas = PictureAreas(tuple("abcdefghij"), found[:, None], found[:, None], labelled)
    low, high = areas.interval([0])
    assert (low, high) == pytest.approx((50.0, 50.0))


def test_bootstrap_of_identical_pictures_has_no_width() -> None:
    same = np.ones((5, 1, 2), dtype=np.int64)
    low, high = PictureAreas(("a",) * 5, same * 3, same * 4, same[:, 0] * 6).interval([0])
    assert (low, high) == pytest.approx((100 * 3 / 7,) * 2)
