import json
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from mmdet.evaluation.functional import eval_map, voc_classes
from pycocotools import mask as rle_ops
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from vicregl_bench.errors import DataError
from vicregl_bench.tasks.detection.metric import (
    IOU_THRESHOLDS,
    Convention,
    Detections,
    DetectionScores,
    GroundTruth,
    Measure,
    Rle,
    _CocoMatches,
    match_pictures,
    score,
)

CLASSES = ("cat", "dog", "cow")


def there(
    boxes: Any, labels: Any = None, ignore: Any = None, masks: Any = None, size: Any = None
) -> GroundTruth:
    count = len(boxes)
    return GroundTruth(
        boxes=np.array(boxes, np.float64).reshape(-1, 4),
        labels=np.array([0] * count if labels is None else labels, np.int64),
        ignore=np.array([False] * count if ignore is None else ignore, bool),
        masks=masks,
        size=size,
    )


def found(boxes: Any, scores: Any = None, labels: Any = None, masks: Any = None) -> Detections:
    count = len(boxes)
    return Detections(
        boxes=np.array(boxes, np.float64).reshape(-1, 4),
        scores=np.array([0.9] * count if scores is None else scores, np.float64),
        labels=np.array([0] * count if labels is None else labels, np.int64),
        masks=masks,
    )


def perfect(truth: list[GroundTruth]) -> list[Detections]:
    return [
        found(t.boxes, labels=t.labels, scores=np.linspace(0.9, 0.5, len(t.boxes))) for t in truth
    ]


def headline(scores: DetectionScores) -> list[float | None]:
    kinds = [kind for kind in (scores.voc, scores.coco, scores.segm) if kind is not None]
    return [value for kind in kinds for value in (kind.ap, kind.ap50, kind.ap75)]


def made(pictures: int, seed: int = 0) -> tuple[list[GroundTruth], list[Detections]]:
    """Objects, a fifth of them difficult, found with displaced boxes, doubles and false alarms."""
    generator = np.random.default_rng(seed)
    truth, detections = [], []
    for _ in range(pictures):
        count = int(generator.integers(0, 6))
        corner = generator.uniform(0, 300, (count, 2))
        boxes = np.hstack([corner, corner + generator.uniform(15, 200, (count, 2))])
        labels = generator.integers(0, 3, count)
        truth.append(there(boxes, labels, generator.random(count) < 0.2))
        corner = generator.uniform(0, 300, (4, 2))
        alarms = np.hstack([corner, corner + generator.uniform(15, 200, (4, 2))])
        near = np.concatenate([boxes, boxes[: count // 2]])
        near = near + generator.normal(0, 6, near.shape)
        shown = np.concatenate([labels, labels[: count // 2], generator.integers(0, 3, 4)])
        detections.append(
            found(np.concatenate([near, alarms]), generator.random(len(shown)), shown)
        )
    return truth, detections


def annotations(truth: list[GroundTruth]) -> list[dict[str, Any]]:
    return [
        {
            "bboxes": t.boxes[~t.ignore],
            "labels": t.labels[~t.ignore],
            "bboxes_ignore": t.boxes[t.ignore],
            "labels_ignore": t.labels[t.ignore],
        }
        for t in truth
    ]


def by_label(detections: list[Detections]) -> list[list[npt.NDArray[Any]]]:
    return [
        [np.column_stack([d.boxes, d.scores])[d.labels == label] for label in range(len(CLASSES))]
        for d in detections
    ]


def bootstrap_interval(
    truth: list[GroundTruth],
    heads: Sequence[list[Detections]],
    classes: tuple[str, ...],
    *,
    measure: Measure,
    inclusive: bool = False,
    resamples: int = 200,
    seed: int = 0,
) -> tuple[float, float]:
    """Pictures drawn with replacement, the same for every head; mean AP, 2.5 and 97.5 %."""
    count = len(truth)
    draws = np.random.default_rng(seed).multinomial(count, [1 / count] * count, size=resamples)
    by_head = [
        np.nanmean(
            match_pictures(truth, found, classes, measure=measure, inclusive=inclusive).tables(
                draws
            ),
            axis=(1, 2),
        )
        for found in heads
    ]
    low, high = np.percentile(np.mean(by_head, axis=0), [2.5, 97.5])
    return float(low), float(high)


def test_perfect_boxes_score_100() -> None:
    truth = made(20)[0]
    scores = score(truth, perfect(truth), CLASSES, convention="voc")
    assert headline(scores) == pytest.approx([100.0] * 6)
    for kind in (scores.voc, scores.coco):
        assert kind is not None
        assert list(kind.by_class.values()) == pytest.approx([100.0] * 3)
    sizes = [scores.coco.small, scores.coco.medium, scores.coco.large]
    assert sizes == pytest.approx([100.0] * 3)


@pytest.mark.parametrize(
    ("shift", "thresholds"),
    # a box of width 100 shifted by s overlaps with IoU (100 - s) / (100 + s)
    [(34, 0), (24, 3), (14, 6), (2, 10)],  # 0.493, 0.613, 0.754, 0.961
)
def test_shifted_boxes_score_by_the_thresholds_they_reach(shift: int, thresholds: int) -> None:
    truth = [there([[10, 10, 110, 60]]), there([[50, 0, 150, 200]])]
    detections = [found(t.boxes + np.array([shift, 0, shift, 0])) for t in truth]
    scores = score(truth, detections, CLASSES, convention="voc")
    expected = [10.0 * thresholds, 100.0 * (thresholds > 0), 100.0 * (thresholds >= 6)]
    assert headline(scores) == pytest.approx(expected * 2)


def test_boxes_shifted_by_a_quarter_meet_the_threshold_of_60_per_cent() -> None:
    # 75 / 125: equal to the threshold matches, in mmdet as in pycocotools
    scores = score(
        [there([[0, 0, 100, 50]])], [found([[25, 0, 125, 50]])], CLASSES, convention="voc"
    )
    assert headline(scores) == pytest.approx([30, 100, 0] * 2)


def test_inclusive_boxes_are_a_pixel_wider() -> None:
    # IoU 5.8 / 12.2 as edges, 6.8 / 13.2 where the last pixels count
    truth, detections = [there([[0, 0, 9, 99]])], [found([[3.2, 0, 12.2, 99]])]
    edges = score(truth, detections, CLASSES, convention="voc")
    pixels = score(truth, detections, CLASSES, convention="voc", inclusive=True)
    assert headline(edges) == pytest.approx([0, 0, 0] * 2)
    assert headline(pixels) == pytest.approx([10, 100, 0] * 2)


@pytest.mark.parametrize("finds", [0, 1, 2])
def test_a_difficult_object_neither_costs_nor_pays(finds: int) -> None:
    easy, difficult = [10, 10, 60, 60], [100, 100, 180, 180]
    truth = [there([easy, difficult], ignore=[False, True])]
    detections = [found([*[difficult] * finds, easy], [*[0.9, 0.8][:finds], 0.5])]
    scores = score(truth, detections, CLASSES, convention="voc")
    assert headline(scores) == pytest.approx([100.0] * 6)


def test_a_second_detection_of_an_object_costs() -> None:
    first, second = [10, 10, 60, 60], [100, 100, 180, 180]
    truth = [there([first, second])]
    detections = [found([first, first, second], [0.9, 0.8, 0.7])]
    scores = score(truth, detections, CLASSES, convention="voc")
    assert scores.voc is not None
    # precision 1 up to recall 1/2, then 2/3: six of 11 points, 51 of 101
    assert scores.voc.ap == pytest.approx(100 * (6 + 5 * 2 / 3) / 11)
    assert scores.coco.ap == pytest.approx(100 * (51 + 50 * 2 / 3) / 101)


def test_eleven_points_by_hand() -> None:
    boxes = [[40 * i, 0, 40 * i + 30, 30] for i in range(5)]
    truth = [there(boxes[:4]), there(boxes[:1])]
    detections = [
        found([boxes[0], boxes[4], boxes[1]], [0.9, 0.8, 0.7]),
        found([boxes[4], boxes[0]], [0.6, 0.5]),
    ]
    # hit, miss, hit, miss, hit of 5 objects: recall 0.2, 0.4, 0.6 at precision 1, 2/3, 3/5.
    # Recall 3/5 falls just short of 6 * 0.1 in floating point, in mmdet as in detectron2.
    scores = score(truth, detections, CLASSES, convention="voc")
    assert scores.voc is not None
    assert scores.voc.ap50 == pytest.approx(100 * (3 * 1 + 2 * 2 / 3 + 1 * 3 / 5) / 11, abs=1e-4)


def test_nothing_found_scores_0() -> None:
    truth = [there([[0, 0, 10, 10]]), there([])]
    scores = score(truth, [found([]), found([])], CLASSES, convention="voc")
    assert headline(scores) == [0.0] * 6


def test_a_class_without_objects_has_no_score_and_is_left_out() -> None:
    box = [0, 0, 50, 50]
    truth = [there([box, box], labels=[0, 1], ignore=[False, True])]  # dog: difficult alone
    detections = [found([box, box, box], [0.9, 0.8, 0.7], labels=[0, 1, 2])]
    scores = score(truth, detections, CLASSES, convention="voc")
    assert headline(scores) == pytest.approx([100.0] * 6)
    for kind in (scores.voc, scores.coco):
        assert kind is not None
        assert kind.by_class == {"cat": pytest.approx(100.0), "dog": None, "cow": None}
        assert kind.by_class50["cow"] is None
    assert (scores.coco.small, scores.coco.large) == (None, None)
    assert scores.coco.medium == pytest.approx(100.0)


@pytest.mark.parametrize("inclusive", [False, True])
def test_voc_style_equals_eval_map(inclusive: bool) -> None:
    truth, detections = made(30)
    expected, by_class = [], []
    for threshold in IOU_THRESHOLDS:
        mean, classes = eval_map(
            by_label(detections),
            annotations(truth),
            iou_thr=threshold,
            nproc=1,
            use_legacy_coordinate=inclusive,
            eval_mode="11points",
            logger="silent",
        )
        expected.append(100 * mean)
        by_class.append([100 * c["ap"] for c in classes])
    scores = score(truth, detections, CLASSES, convention="voc", inclusive=inclusive).voc
    assert scores is not None
    assert scores.ap == pytest.approx(np.mean(expected), abs=1e-4)  # eval_map is in float32
    assert (scores.ap50, scores.ap75) == pytest.approx((expected[0], expected[5]), abs=1e-4)
    assert list(scores.by_class.values()) == pytest.approx(np.mean(by_class, axis=0), abs=1e-4)
    assert 10 < scores.ap < scores.ap50 < 90


def test_coco_style_equals_pycocotools_on_files(tmp_path: Path) -> None:
    truth, detections = made(30)
    files = {
        "images": [{"id": i, "height": 500, "width": 500} for i in range(30)],
        "categories": [{"id": i, "name": name} for i, name in enumerate(CLASSES)],
        "annotations": [],
    }
    for i, t in enumerate(truth):
        for (x1, y1, x2, y2), label, ignore in zip(t.boxes, t.labels, t.ignore, strict=True):
            files["annotations"].append(
                {
                    "id": len(files["annotations"]) + 1,
                    "image_id": i,
                    "category_id": int(label),
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "area": (x2 - x1) * (y2 - y1),
                    "iscrowd": int(ignore),
                }
            )
    results = [
        {
            "image_id": i,
            "category_id": int(label),
            "bbox": [x1, y1, x2 - x1, y2 - y1],
            "score": float(s),
        }
        for i, d in enumerate(detections)
        for (x1, y1, x2, y2), s, label in zip(d.boxes, d.scores, d.labels, strict=True)
    ]
    (tmp_path / "truth.json").write_text(json.dumps(files))
    (tmp_path / "found.json").write_text(json.dumps(results))
    data = COCO(str(tmp_path / "truth.json"))
    evaluator = COCOeval(data, data.loadRes(str(tmp_path / "found.json")), "bbox")
    evaluator.evaluate()
    evaluator.accumulate()
    evaluator.summarize()
    ours = score(truth, detections, CLASSES, convention="coco")
    assert ours.voc is None
    assert ours.main is ours.coco
    c = ours.coco
    assert [c.ap, c.ap50, c.ap75, c.small, c.medium, c.large] == pytest.approx(
        100 * evaluator.stats[:6]
    )


def rectangle(x1: int, y1: int, x2: int, y2: int, size: tuple[int, int] = (100, 200)) -> Rle:
    mask = np.zeros(size, np.uint8, order="F")
    mask[y1:y2, x1:x2] = 1
    encoded: Rle = rle_ops.encode(mask)
    return encoded


def test_masks_by_hand() -> None:
    # the box is right; the mask covers three fifths of the object's: IoU 0.6 or a little below
    box = [0, 0, 100, 50]
    outline = [[0.0, 0.0, 100.0, 0.0, 100.0, 50.0, 0.0, 50.0]]
    for there_mask in (outline, rectangle(*box)):
        truth = [there([box], masks=[there_mask], size=(100, 200)), there([], masks=[])]
        for width, expected in ((100, [100, 100, 100]), (62, [30, 100, 0]), (40, [0, 0, 0])):
            detections = [found([box], masks=[rectangle(0, 0, width, 50)]), found([], masks=[])]
            scores = score(truth, detections, CLASSES, convention="coco")
            assert headline(scores) == pytest.approx([100.0] * 3 + expected)
            assert scores.named()["mask_ap"] == pytest.approx(expected[0])


def test_a_crowd_takes_in_whatever_lies_in_it() -> None:
    crowd = rectangle(100, 0, 200, 100)
    uncompressed = {"size": [100, 200], "counts": [100 * 100, 100 * 100]}  # column by column
    for crowd_mask in (crowd, uncompressed):
        truth = [
            there(
                [[0, 0, 40, 40], [100, 0, 200, 100]],
                ignore=[False, True],
                masks=[rectangle(0, 0, 40, 40), crowd_mask],
            )
        ]
        inside = [[110, 10, 130, 30], [150, 50, 170, 70]]
        boxes = [[0, 0, 40, 40], *inside]
        detections = [found(boxes, [0.5, 0.9, 0.8], masks=[rectangle(*b) for b in boxes])]
        scores = score(truth, detections, CLASSES, convention="coco")
        assert headline(scores) == pytest.approx([100.0] * 6)
        beside = [[0, 0, 40, 40], [50, 50, 70, 70]]
        detections = [found(beside, [0.5, 0.9], masks=[rectangle(*b) for b in beside])]
        scores = score(truth, detections, CLASSES, convention="coco")
        assert headline(scores) == pytest.approx([50.0] * 6)


def test_areas_of_objects_are_those_given_or_of_their_masks() -> None:
    box = [0, 0, 40, 40]  # medium
    small = rectangle(0, 0, 20, 40)
    for t in (
        there([box], masks=[small]),
        GroundTruth(
            boxes=np.array([box], float),
            labels=np.zeros(1, np.int64),
            ignore=np.zeros(1, bool),
            areas=np.array([800.0]),
        ),
    ):
        scores = score([t], [found([box])], CLASSES, convention="coco").coco
        assert (scores.small, scores.medium) == (pytest.approx(100.0), None)


def test_names_of_records() -> None:
    truth, detections = made(10)
    scores = score(truth, detections, CLASSES, convention="voc")
    named = scores.named()
    assert scores.voc is not None
    assert named["ap"] == scores.voc.ap
    assert named["map07"] == named["ap50"] == scores.voc.ap50
    assert named["coco_ap"] == scores.coco.ap != scores.voc.ap
    named = score(truth, detections, CLASSES, convention="coco").named()
    sizes = {"ap_small", "ap_medium", "ap_large"}
    assert named.keys() == {"ap", "ap50", "ap75"} | sizes


@pytest.mark.parametrize("measure", ["voc", "coco"])
def test_a_resample_scores_as_the_pictures_repeated(measure: Measure) -> None:
    truth, detections = made(8, seed=1)
    low, high = bootstrap_interval(
        truth, [detections], CLASSES, measure=measure, resamples=1, seed=3
    )
    draw = np.random.default_rng(3).multinomial(8, [1 / 8] * 8)
    assert draw.max() > 1
    assert draw.min() == 0
    index = np.repeat(np.arange(8), draw)
    scores = score(
        [truth[i] for i in index], [detections[i] for i in index], CLASSES, convention="voc"
    )
    kind = scores.voc if measure == "voc" else scores.coco
    assert kind is not None
    assert low == high == pytest.approx(kind.ap, abs=1e-9)


def test_drawn_matches_score_as_cocoevals_accumulate() -> None:
    truth, detections = made(40, seed=2)
    # with ties and without, and a class without objects
    detections = [found(d.boxes, d.scores.round(1), d.labels) for d in detections]
    generator = np.random.default_rng(0)
    for ties in (False, True):
        given = detections if ties else made(40, seed=2)[1]
        matches = _CocoMatches(truth, given, 4, inclusive=False, by_size=False)
        for counts in (np.ones(40, np.int64), generator.multinomial(40, [1 / 40] * 40)):
            if ties and counts.max() > 1:
                continue  # of equal scores, repeated pictures have another order
            np.testing.assert_allclose(
                matches.tables(counts[None])[0], matches.by_size(counts)[0], rtol=0, atol=1e-9
            )
    assert np.isnan(matches.tables(np.ones((1, 40)))[0, :, 3]).all()


def test_masks_have_an_interval_too() -> None:
    box, half = [0, 0, 100, 50], rectangle(0, 0, 62, 50)
    truth = [there([box], masks=[rectangle(*box)]) for _ in range(6)]
    detections = [
        found([box], masks=[half if i % 2 else rectangle(*box)], scores=[0.9 - 0.1 * i])
        for i in range(6)
    ]
    low, high = bootstrap_interval(truth, [detections], CLASSES, measure="segm", resamples=50)
    middle = score(truth, detections, CLASSES, convention="coco").segm
    assert middle is not None
    assert low < middle.ap < high


def test_interval_brackets_the_score_and_shrinks_with_pictures() -> None:
    widths = []
    for count in (10, 160):
        truth, detections = made(count)
        low, high = bootstrap_interval(truth, [detections], CLASSES, measure="voc", resamples=50)
        scores = score(truth, detections, CLASSES, convention="voc").voc
        assert scores is not None
        assert low < scores.ap < high
        widths.append(high - low)
    assert widths[1] < widths[0] / 2


@pytest.mark.parametrize("measure", ["voc", "coco"])
def test_heads_are_resampled_together(measure: Measure) -> None:
    truth, detections = made(12)
    blind = [found([]) for _ in truth]

    def interval(*heads: list[Detections]) -> tuple[float, float]:
        return bootstrap_interval(truth, heads, CLASSES, measure=measure, resamples=20)

    one = interval(detections)
    assert interval(detections, detections) == pytest.approx(one, abs=1e-9)
    # the same draws: the mean with a head that finds nothing is half in each of them
    assert interval(detections, blind) == pytest.approx((one[0] / 2, one[1] / 2), abs=1e-9)


def test_what_does_not_fit_is_refused() -> None:
    truth, detections = [there([[0, 0, 1, 1]])], [found([[0, 0, 1, 1]])]
    with pytest.raises(ValueError, match="1 pictures, detections of 2"):
        score(truth, detections * 2, CLASSES, convention="voc")
    with pytest.raises(ValueError, match=r"outside 0 \.\.\. 2"):
        score(truth, [found([[0, 0, 1, 1]], labels=[3])], CLASSES, convention="voc")
    with pytest.raises(ValueError, match="picture 0 has no masks"):
        score(
            truth,
            [found([[0, 0, 1, 1]], masks=[rectangle(0, 0, 1, 1)])],
            CLASSES,
            convention="coco",
        )
    with pytest.raises(DataError, match="none of 1 pictures has an object that counts"):
        score([there([[0, 0, 1, 1]], ignore=[True])], detections, CLASSES, convention="coco")
    with pytest.raises(ValueError, match="not finite"):
        found([[0, 0, np.nan, 1]])
    with pytest.raises(ValueError, match="2 masks for 1 boxes"):
        found([[0, 0, 1, 1]], masks=[rectangle(0, 0, 1, 1)] * 2)
    with pytest.raises(ValueError, match="scores are"):
        found([[0, 0, 1, 1]], scores=[0.1, 0.2])
    with pytest.raises(ValueError, match="polygons need"):
        there([[0, 0, 1, 1]], masks=[[[0.0, 0.0, 1.0, 0.0, 1.0, 1.0]]])


VOC = voc_classes()


def voc2007(root: Path, split: str) -> list[GroundTruth]:
    folder = root / "data/voc2007_det/VOCdevkit/VOC2007"
    truth = []
    for name in (folder / f"ImageSets/Main/{split}.txt").read_text().split():
        objects = ET.parse(folder / f"Annotations/{name}.xml").getroot().findall("object")
        corners = ("xmin", "ymin", "xmax", "ymax")
        boxes = [[float(o.findtext(f"bndbox/{c}", "")) for c in corners] for o in objects]
        truth.append(
            there(
                np.array(boxes) - [1, 1, 0, 0],  # edges, as detectron2 reads them
                [VOC.index(o.findtext("name", "")) for o in objects],
                [o.findtext("difficult") == "1" for o in objects],
            )
        )
    return truth


@pytest.mark.parametrize("difficult", [True, False])
def test_real_voc_truth_fed_as_detections_scores_100(shared: Path, difficult: bool) -> None:
    truth = voc2007(shared, "test")
    assert len(truth) == 70
    assert sum(t.ignore.sum() for t in truth) > 0
    kept = [np.ones(len(t.labels), bool) if difficult else ~t.ignore for t in truth]
    detections = [found(t.boxes[k], labels=t.labels[k]) for t, k in zip(truth, kept, strict=True)]
    scores = score(truth, detections, VOC, convention="voc")
    assert headline(scores) == pytest.approx([100.0] * 6)
    assert bootstrap_interval(
        truth, [detections], VOC, measure="voc", resamples=5
    ) == pytest.approx((100, 100))


def test_real_coco_truth_fed_as_detections_scores_100(shared: Path) -> None:
    file = shared / "data/coco_mini/annotations/instances_val2017.json"
    data = json.loads(file.read_text())
    names = [c["name"] for c in data["categories"]]
    label = {c["id"]: k for k, c in enumerate(data["categories"])}
    truth, detections = [], []
    for image in data["images"]:
        objects = [a for a in data["annotations"] if a["image_id"] == image["id"]]
        boxes = np.array([a["bbox"] for a in objects], float).reshape(-1, 4)
        t = GroundTruth(
            boxes=np.hstack([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]]),
            labels=np.array([label[a["category_id"]] for a in objects], np.int64),
            ignore=np.array([a["iscrowd"] == 1 for a in objects], bool),
            masks=[a["segmentation"] for a in objects],
            areas=np.array([a["area"] for a in objects], float),
            size=(image["height"], image["width"]),
        )
        index = np.flatnonzero(~t.ignore)
        outlines = [objects[i]["segmentation"] for i in index]
        masks = [rle_ops.merge(rle_ops.frPyObjects(o, *t.size)) for o in outlines]
        truth.append(t)
        detections.append(found(t.boxes[index], labels=t.labels[index], masks=masks))
    conventions: list[Convention] = ["voc", "coco"]
    for convention in conventions:
        scores = score(truth, detections, names, convention=convention)
        assert headline(scores) == pytest.approx([100.0] * (9 if convention == "voc" else 6))
