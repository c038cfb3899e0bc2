import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.evaluator import Evaluator
from mmengine.structures import InstanceData
from pycocotools import mask as rle_ops
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from vicregl_bench.data import (
    DetectionData,
    Picture,
    make_coco,
    make_voc_boxes,
    read_coco_detection,
    read_detection,
)
from vicregl_bench.data.coco import CATEGORIES
from vicregl_bench.errors import DataError
from vicregl_bench.tasks.detection.evaluation import (
    SweepDetectionMetric,
    as_detections,
    ground_truth,
)
from vicregl_bench.tasks.detection.metric import encoded_masks, score


@pytest.fixture
def voc(tmp_path: Path) -> DetectionData:
    out = make_voc_boxes(tmp_path / "voc", train=3, val=6, seed=1, size=(160, 120), classes=3)
    return read_detection("voc_boxes", out)


@pytest.fixture
def coco(tmp_path: Path) -> DetectionData:
    out = make_coco(tmp_path / "coco", train=3, val=12, seed=1, size=(160, 120), classes=3)
    return read_detection("coco", out)


def instances(
    dataset: DetectionData, picture: Picture, shift: float = 0.0, crowds: bool = False
) -> dict[str, Any]:
    """The objects of a picture as mmdet's detections, moved to the right; masks are not."""
    truth = ground_truth(dataset, picture, masks=dataset.name == "coco")
    chosen = np.ones(len(truth.labels), bool) if crowds else ~truth.ignore
    boxes = truth.boxes[chosen] + np.array([shift, 0, shift, 0])
    content: dict[str, Any] = {
        "bboxes": torch.tensor(boxes, dtype=torch.float32),
        "scores": torch.linspace(0.9, 0.5, len(boxes)),
        "labels": torch.tensor(truth.labels[chosen]),
    }
    masks = encoded_masks(truth)
    if masks is not None:
        content["masks"] = [mask for mask, yes in zip(masks, chosen, strict=True) if yes]
    return content


def evaluated(
    dataset: DetectionData, samples: list[dict[str, Any]], **options: Any
) -> tuple[SweepDetectionMetric, dict[str, float]]:
    metric = SweepDetectionMetric(dataset, dataset.val, **options)
    metric.process({}, samples)
    return metric, metric.evaluate(len(samples))


@pytest.mark.parametrize("name", ["voc", "coco"])
def test_objects_fed_as_detections_score_100(name: str, request: pytest.FixtureRequest) -> None:
    dataset: DetectionData = request.getfixturevalue(name)
    samples = [
        {"img_id": picture.id, "pred_instances": instances(dataset, picture)}
        for picture in dataset.val[::-1]
    ]
    metric, scores = evaluated(dataset, samples)
    assert scores == {"sweep/head0/ap": pytest.approx(100.0)}
    assert metric.outcome is not None
    assert metric.outcome.names == tuple(picture.name for picture in dataset.val)
    assert metric.outcome.convention == name
    assert metric.outcome.inclusive == (name == "voc")
    assert metric.kept == ()
    assert len(metric.outcome.head(0).by_class) == len(dataset.classes)
    assert ("coco_ap" in metric.outcome.head(0).scores) == (name == "voc")


def test_voc_boxes_end_on_their_last_pixel(voc: DetectionData) -> None:
    samples = [
        {"img_id": picture.id, "pred_instances": instances(voc, picture, shift=5.0)}
        for picture in voc.val
    ]
    metric, _ = evaluated(voc, samples)
    assert metric.outcome is not None
    head = metric.outcome.head(0)
    last_counts = np.array([0, 0, 1, 1])
    truth = [replace(t, boxes=t.boxes + last_counts) for t in metric.outcome.truth]
    found = [replace(d, boxes=d.boxes + last_counts) for d in metric.outcome.found[0]]
    as_edges = score(truth, found, voc.classes, convention="voc").main
    assert head.score == pytest.approx(as_edges.ap)
    assert head.by_class == pytest.approx(tuple(as_edges.by_class.values()))
    # which here makes a difference
    narrow = score(
        metric.outcome.truth, metric.outcome.found[0], voc.classes, convention="voc"
    ).main
    assert narrow.ap < head.score < 100


def test_coco_scores_are_those_of_pycocotools_on_the_file(coco: DetectionData) -> None:
    """Boxes moved by 3 pixels, some found twice, masks as they are; the crowds are in the file."""
    samples, results = [], []
    generator = np.random.default_rng(0)
    categories = list(CATEGORIES)
    for picture in coco.val:
        once = instances(coco, picture, shift=3.0)
        twice = {
            "bboxes": torch.cat([once["bboxes"], once["bboxes"][:1] + 1]),
            "scores": torch.tensor(generator.random(len(once["scores"]) + 1), dtype=torch.float32),
            "labels": torch.cat([once["labels"], once["labels"][:1]]),
            "masks": once["masks"] + once["masks"][:1],
        }
        samples.append({"img_id": picture.id, "pred_instances": twice})
        for i, (box, confidence, label) in enumerate(
            zip(twice["bboxes"], twice["scores"], twice["labels"], strict=True)
        ):
            x1, y1, x2, y2 = box.double().tolist()
            code = twice["masks"][i]
            results.append(
                {
                    "image_id": picture.id,
                    "category_id": categories[int(label)],
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "score": float(confidence),
                    "segmentation": {**code, "counts": code["counts"].decode()},
                }
            )
    metric, _ = evaluated(coco, samples, masks=True)
    assert metric.outcome is not None
    scores = metric.outcome.head(0).scores
    assert any(truth.ignore.any() for truth in metric.outcome.truth)  # crowds
    path = coco.val[0].annotation
    truth = COCO(str(path))
    for kind, prefix in (("bbox", ""), ("segm", "mask_")):
        # of results with both, pycocotools takes the size from the box
        other = "segmentation" if kind == "bbox" else "bbox"
        given = [{k: v for k, v in one.items() if k != other} for one in results]
        evaluator = COCOeval(truth, truth.loadRes(given), kind)
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
        names = [f"{prefix}{n}" for n in ("ap", "ap50", "ap75", "ap_small", "ap_medium")]
        expected = [None if value < 0 else 100 * value for value in evaluator.stats[:5]]
        assert [scores[name] for name in names] == pytest.approx(expected)
    assert 10 < scores["ap"] < scores["ap50"] <= 100


def test_sizes_of_objects_are_by_the_files_own_area(coco: DetectionData) -> None:
    path = coco.val[0].annotation
    content = json.loads(path.read_text())
    for annotation in content["annotations"]:
        annotation["area"] = 100.5 * 100  # large, whatever the box
    path.write_text(json.dumps(content))
    dataset = read_coco_detection(coco.root)
    samples = [
        {"img_id": picture.id, "pred_instances": instances(dataset, picture)}
        for picture in dataset.val
    ]
    metric, _ = evaluated(dataset, samples)
    assert metric.outcome is not None
    scores = metric.outcome.head(0).scores
    assert (scores["ap_small"], scores["ap_medium"]) == (None, None)
    assert scores["ap_large"] == pytest.approx(100.0)


def test_detections_in_a_crowd_neither_hit_nor_miss(coco: DetectionData) -> None:
    samples = []
    for picture in coco.val:
        found = instances(coco, picture, crowds=True)  # a crowd is found as if it were an object
        crowd = torch.tensor(coco.annotations(picture).crowd)
        found["scores"] = torch.where(crowd, 1.0, found["scores"])  # before all others
        samples.append({"img_id": picture.id, "pred_instances": found})
    metric, scores = evaluated(coco, samples)
    assert scores["sweep/head0/ap"] == pytest.approx(100.0)
    assert metric.outcome is not None
    crowds = sum(int(truth.ignore.sum()) for truth in metric.outcome.truth)
    assert crowds > 0
    objects = [t.boxes[t.ignore] for t in metric.outcome.truth]
    boxes = [d.boxes for d in metric.outcome.found[0]]
    assert all(len(o) == 0 or (b == o[0]).all(1).any() for b, o in zip(boxes, objects, strict=True))


def test_every_head_through_mmengines_evaluator(coco: DetectionData) -> None:
    shifts = (0.0, 4.0, 200.0)
    metric = SweepDetectionMetric(coco, coco.val)
    evaluator = Evaluator([metric])
    for picture in coco.val:
        sample = DetDataSample(metainfo={"img_id": picture.id})
        heads = []
        for shift in shifts:
            content = instances(coco, picture, shift)
            content.pop("masks")
            heads.append(InstanceData(**content))
        sample.pred_heads = heads
        evaluator.process([sample])
    scores = evaluator.evaluate(len(coco.val))
    assert list(scores) == [f"sweep/head{k}/ap" for k in range(3)]
    assert scores["sweep/head0/ap"] == pytest.approx(100.0)
    assert 0 < scores["sweep/head1/ap"] < 100
    assert scores["sweep/head2/ap"] == 0.0


@pytest.mark.parametrize("masks", [True, False])
def test_masks_of_pixels_are_encoded(masks: bool) -> None:
    pixels = torch.zeros(2, 20, 30, dtype=torch.bool)
    pixels[0, 2:8, 3:9] = True
    found = as_detections(
        InstanceData(
            bboxes=torch.tensor([[3.1, 2, 9, 8], [0, 0, 1, 1]], dtype=torch.float16),
            scores=torch.tensor([0.7, 0.1]),
            labels=torch.tensor([1, 0]),
            masks=pixels,
        ),
        masks=masks,
    )
    assert found.boxes[0, 0] == np.float64(np.float16(3.1))
    assert found.scores[0] == np.float64(np.float32(0.7))
    if masks:
        assert found.masks is not None
        assert [rle_ops.area(mask) for mask in found.masks] == [36, 0]
        assert found.masks[0]["size"] == [20, 30]
    else:
        assert found.masks is None


def test_what_is_not_finite_is_left_out() -> None:
    found = as_detections(
        {
            "bboxes": np.array([[0, 0, 1, 1], [0, 0, np.nan, 1], [0, 0, 1e39, 2], [0, 0, 3, 3]]),
            "scores": np.array([0.5, 0.9, 0.8, np.nan]),
            "labels": np.array([2, 1, 0, 0]),
        }
    )
    assert found.boxes.tolist() == [[0, 0, 1, 1]]
    assert found.labels.tolist() == [2]


def test_what_cannot_be_scored(coco: DetectionData, voc: DetectionData) -> None:
    samples = [
        {"img_id": picture.id, "pred_instances": instances(coco, picture)} for picture in coco.val
    ]
    with pytest.raises(RuntimeError, match=f"1 of 12 pictures .* first is {coco.val[-1].name}"):
        evaluated(coco, samples[:-1])
    heads = [samples[0]["pred_instances"]] * 2
    with pytest.raises(RuntimeError, match="different numbers of heads"):
        evaluated(coco, [{"img_id": coco.val[0].id, "pred_heads": heads}, *samples[1:]])
    with pytest.raises(ValueError, match="voc_boxes has no masks"):
        SweepDetectionMetric(voc, voc.val, masks=True)


def test_objects_without_mask_are_an_error(coco: DetectionData) -> None:
    path = coco.val[0].annotation
    content = json.loads(path.read_text())
    del content["annotations"][0]["segmentation"]
    path.write_text(json.dumps(content))
    dataset = read_coco_detection(coco.root)
    with pytest.raises(DataError, match=f"an object of {coco.val[0].name} has no mask"):
        ground_truth(dataset, dataset.val[0], masks=True)
    assert ground_truth(dataset, dataset.val[0]).masks is None
