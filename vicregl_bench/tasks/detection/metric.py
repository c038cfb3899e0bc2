"""Average precision of detections, VOC's and COCO's, in percent.

Two ways of measuring go by the names AP, AP50 and AP75 on VOC, and they are not the same:

- **VOC-style** (`Matches` "voc"): at each IoU threshold 0.50, 0.55, ..., 0.95 VOC2007's 11-point AP
  with the devkit's matching, averaged over classes and thresholds. **The papers' numbers** (table 9
  and the MoCo and DenseCL rows it stands among) are of this kind: those works fine-tune with
  detectron2, whose PascalVOCDetectionEvaluator computes exactly this for year 2007 and reports it
  as AP, AP50 and AP75. AP50 is the devkit's mAP for VOC2007.
- **COCO-style** ("coco"): COCOeval's 101-point AP over the same thresholds, difficult objects
  marked as crowds (any detection lying in one is passed over, by the share of its own area).

Boxes are edges in pixels of the original picture, x1, y1, x2, y2 with width x2 - x1. VOC's files
hold 1-based indices of the first and the last pixel; as edges those are (xmin - 1, ymin - 1, xmax,
ymax), which is how detectron2 reads them, and on such boxes IoU without the devkit's "+ 1" is the
devkit's IoU with it. mmdet's XMLDataset subtracts 1 from all four numbers instead, so that x2 and
y2 are last pixels: `inclusive=True` counts them in, as eval_map's use_legacy_coordinate=True does.

Matching is mmdet's `tpfp_default` and its `average_precision` for VOC (what `eval_map` runs,
without its process pools), pycocotools' COCOeval for COCO. Deviations of the former from
detectron2's evaluator: scores are not rounded to three decimals nor boxes to one, equal scores keep
the order of the pictures, an IoU equal to the threshold matches (as in the devkit; detectron2 wants
more), and a class without objects that count is left out of the mean (there it is a NaN or 0).
"""

import contextlib
import copy
import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt
from mmdet.evaluation.functional import average_precision
from mmdet.evaluation.functional.mean_ap import tpfp_default
from pycocotools import mask as rle_ops  # type: ignore[import-untyped]
from pycocotools.coco import COCO  # type: ignore[import-untyped]
from pycocotools.cocoeval import COCOeval  # type: ignore[import-untyped]

from vicregl_bench.errors import DataError

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

Rle = dict[str, Any]
"""COCO's run-length encoding: `size` (height, width) and `counts`."""
Polygons = list[list[float]]
"""COCO's outlines of one object, each x, y, x, y, ..."""
Convention = Literal["voc", "coco"]
Measure = Literal["voc", "coco", "segm"]

IOU_THRESHOLDS = tuple(percent / 100 for percent in range(50, 100, 5))
_AT_50, _AT_75 = 0, 5
MAX_DETECTIONS = 100
"""Best-scored detections of a picture and class that COCO counts; VOC counts all."""


@dataclass(frozen=True)
class Detections:
    """What a detector found in one picture.

    Raises:
        ValueError: if shapes do not fit together, or a box or score is not finite.
    """

    boxes: FloatArray  # (n, 4) x1, y1, x2, y2 in pixels of the original picture
    scores: FloatArray  # (n,)
    labels: IntArray  # (n,) index into the class names
    masks: Sequence[Rle] | None = None  # n, of the original picture's size

    def __post_init__(self) -> None:
        _check(self, ("scores", "labels"))


@dataclass(frozen=True)
class GroundTruth:
    """What is in one picture.

    Raises:
        ValueError: if shapes do not fit together, or a box is not finite.
    """

    boxes: FloatArray  # (n, 4) x1, y1, x2, y2 in pixels of the original picture
    labels: IntArray  # (n,) index into the class names
    ignore: BoolArray  # (n,) VOC's difficult, COCO's iscrowd: neither counted nor punished
    masks: Sequence[Rle | Polygons] | None = None  # n
    areas: FloatArray | None = None  # (n,) pixels, COCO's `area`; else of the mask, or of the box
    size: tuple[int, int] | None = None  # height, width; needed for polygons

    def __post_init__(self) -> None:
        _check(self, ("labels", "ignore"))
        if self.areas is not None and len(self.areas) != len(self.boxes):
            raise ValueError(f"{len(self.areas)} areas for {len(self.boxes)} boxes")
        if self.size is None and any(isinstance(mask, list) for mask in self.masks or ()):
            raise ValueError("polygons need the picture's size")


@dataclass(frozen=True)
class APScores:
    """Average precision in percent, one way of measuring it; None where a class has no objects."""

    ap: float  # mean over IoU 0.50, 0.55, ..., 0.95
    ap50: float
    ap75: float
    by_class: dict[str, float | None]  # ap
    by_class50: dict[str, float | None]  # ap50


@dataclass(frozen=True)
class CocoScores(APScores):
    """COCO's, with AP of objects below 32^2 pixels, below 96^2 and above; None without any."""

    small: float | None
    medium: float | None
    large: float | None


@dataclass(frozen=True)
class DetectionScores:
    """All scores of one set of detections."""

    voc: APScores | None  # VOC-style, the papers' numbers on VOC; None under "coco"
    coco: CocoScores  # boxes
    segm: CocoScores | None  # masks; None where the detections hold none

    @property
    def main(self) -> APScores:
        """The boxes' scores that the papers print: VOC-style on VOC, COCO's on COCO."""
        return self.voc or self.coco

    def named(self) -> dict[str, float | None]:
        """Scores under the names that records use.

        `ap`, `ap50`, `ap75` are the main ones. On VOC `map07`, the devkit's mAP, repeats `ap50`,
        and COCO-style ones are `coco_ap` and so on; masks' are `mask_ap` and so on.
        """
        named: dict[str, float | None] = {}
        if self.voc is not None:
            named |= _named(self.voc)
            named["map07"] = self.voc.ap50
        named |= _named(self.coco, "coco_" if self.voc else "")
        if self.segm is not None:
            named |= _named(self.segm, "mask_")
        return named


def score(
    truth: Sequence[GroundTruth],
    detections: Sequence[Detections],
    classes: Sequence[str],
    *,
    convention: Convention,
    inclusive: bool = False,
) -> DetectionScores:
    """Score the detections of a set of pictures.

    Args:
        truth: one a picture.
        detections: one a picture, in the same order.
        classes: names, by label.
        convention: "voc" for VOC-style AP and COCO-style beside it, "coco" for COCO's alone.
        inclusive: x2 and y2 are last pixels, not edges (see the module's docstring).

    Returns:
        Scores in percent. Masks are scored where every picture's detections hold them.

    Raises:
        DataError: if no object counts.
        ValueError: if truth and detections do not fit together.
    """
    _check_pair(truth, detections, classes)
    once = np.ones(len(truth), np.int64)
    voc = None
    if convention == "voc":
        table = _VocMatches(truth, detections, len(classes), inclusive).table(once)
        voc = APScores(**_summary(table, classes))
    segm = None
    if all(found.masks is not None for found in detections):
        segm = _coco_scores(
            _CocoMatches(truth, detections, len(classes), inclusive, masks=True), once, classes
        )
    boxes = _CocoMatches(truth, detections, len(classes), inclusive)
    return DetectionScores(voc=voc, coco=_coco_scores(boxes, once, classes), segm=segm)


def bootstrap_interval(
    truth: Sequence[GroundTruth],
    heads: Sequence[Sequence[Detections]],
    classes: Sequence[str],
    *,
    measure: Measure,
    inclusive: bool = False,
    resamples: int = 200,
    seed: int = 0,
) -> tuple[float, float]:
    """95 % percentile interval of heads' mean AP (IoU 0.50 to 0.95) over resampled pictures.

    Pictures are matched once and drawn with replacement, the same ones for every head; a resample's
    AP averages over the classes that have objects in it.

    Args:
        truth: as for `score`.
        heads: detections of each head, as for `score`.
        classes: as for `score`.
        measure: "voc" for the VOC-style AP, "coco" for COCO's of boxes, "segm" of masks.
        inclusive: as for `score`.
        resamples: number of draws.
        seed: of the draws.

    Returns:
        Lower and upper end in percent.

    Raises:
        DataError: if no object counts.
        ValueError: if truth and detections do not fit together.
    """
    if not heads:
        raise ValueError("no head to score")
    count = len(truth)
    draws = np.random.default_rng(seed).multinomial(count, [1.0 / count] * count, size=resamples)
    by_head = []
    for detections in heads:
        _check_pair(truth, detections, classes)
        matches: _Matches
        if measure == "voc":
            matches = _VocMatches(truth, detections, len(classes), inclusive)
        else:
            matches = _CocoMatches(
                truth, detections, len(classes), inclusive, masks=measure == "segm", by_size=False
            )
        scores = [_mean(matches.table(draw)) for draw in draws]
        # a draw without objects has no score, whatever the head
        by_head.append([s for s in scores if s is not None])
    low, high = np.percentile(np.mean(by_head, axis=0), [2.5, 97.5])
    return float(low), float(high)


class _Matches(Protocol):
    """Pictures matched once, to be counted any number of times."""

    def table(self, counts: IntArray) -> FloatArray:
        """AP in percent, (thresholds, classes), each picture counted `counts` (N,) times.

        NaN where a class has no objects.
        """


class _VocMatches:
    """mmdet's matches at every threshold, by class."""

    def __init__(
        self,
        truth: Sequence[GroundTruth],
        detections: Sequence[Detections],
        classes: int,
        inclusive: bool,
    ) -> None:
        self._classes = [
            _match_class(truth, detections, label, inclusive) for label in range(classes)
        ]

    def table(self, counts: IntArray) -> FloatArray:
        return np.stack(
            [_eleven_points(matched.curve(counts)) for matched in self._classes], axis=1
        )


@dataclass(frozen=True)
class _ClassMatches:
    """One class's detections by falling score."""

    picture: IntArray  # (n,)
    hits: FloatArray  # (thresholds, n) 1 for a true positive
    misses: FloatArray  # (thresholds, n) 1 for a false positive
    objects: IntArray  # (N,) objects that count, a picture

    def curve(self, counts: IntArray) -> tuple[FloatArray, FloatArray] | None:
        """Recall and precision (thresholds, n), None without objects.

        A picture counted twice raises the running sums by two at once. That leaves out points of
        the precision-recall curve which never are the highest at their recall, so the AP is that
        of the picture being there twice.
        """
        objects = int(counts @ self.objects)
        if not objects:
            return None
        weights = counts[self.picture]
        hits = np.cumsum(self.hits * weights, axis=1)
        misses = np.cumsum(self.misses * weights, axis=1)
        return hits / objects, hits / np.maximum(hits + misses, np.finfo(np.float32).eps)


def _eleven_points(curve: tuple[FloatArray, FloatArray] | None) -> FloatArray:
    """VOC2007's AP in percent at every threshold; NaN without objects."""
    if curve is None:
        return np.full(len(IOU_THRESHOLDS), np.nan)
    recall, precision = curve
    return 100.0 * np.asarray(average_precision(recall, precision, "11points"), np.float64)


def _101_points(curve: tuple[FloatArray, FloatArray] | None) -> FloatArray:
    """COCOeval's AP in percent at every threshold; NaN without objects."""
    if curve is None:
        return np.full(len(IOU_THRESHOLDS), np.nan)
    recall, precision = curve
    highest = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    highest = np.pad(highest, ((0, 0), (0, 1)))  # 0 beyond the last recall
    asked = np.linspace(0.0, 1.0, 101)
    reached = [np.searchsorted(one, asked, side="left") for one in recall]
    return np.array([100.0 * p[k].mean() for p, k in zip(highest, reached, strict=True)])


def _match_class(
    truth: Sequence[GroundTruth], detections: Sequence[Detections], label: int, inclusive: bool
) -> _ClassMatches:
    scores, pictures, hits, misses, objects = [], [], [], [], []
    for picture, (there, found) in enumerate(zip(truth, detections, strict=True)):
        there_is, found_is = there.labels == label, found.labels == label
        objects.append(int((there_is & ~there.ignore).sum()))
        if not found_is.any():
            continue
        boxes = np.column_stack([found.boxes, found.scores])[found_is]
        matched = [
            tpfp_default(
                boxes,
                there.boxes[there_is & ~there.ignore],
                there.boxes[there_is & there.ignore],
                iou_thr=threshold,
                use_legacy_coordinate=inclusive,
            )
            for threshold in IOU_THRESHOLDS
        ]
        hits.append(np.vstack([hit for hit, _ in matched]))
        misses.append(np.vstack([miss for _, miss in matched]))
        scores.append(boxes[:, 4])
        pictures.append(np.full(len(boxes), picture))
    return _by_score(scores, pictures, hits, misses, objects)


def _by_score(
    scores: Sequence[npt.NDArray[Any]],
    pictures: Sequence[IntArray],
    hits: Sequence[npt.NDArray[Any]],
    misses: Sequence[npt.NDArray[Any]],
    objects: Sequence[int],
) -> _ClassMatches:
    """One class's detections, given picture by picture; of equal score in that order."""
    if not scores:
        nothing = np.zeros((len(IOU_THRESHOLDS), 0))
        return _ClassMatches(np.zeros(0, np.int64), nothing, nothing, np.array(objects))
    order = np.argsort(-np.concatenate(scores), kind="stable")
    return _ClassMatches(
        picture=np.concatenate(pictures)[order],
        hits=np.hstack(hits)[:, order].astype(np.float64),
        misses=np.hstack(misses)[:, order].astype(np.float64),
        objects=np.array(objects),
    )


class _CocoMatches:
    """COCOeval after `evaluate`, to be accumulated over any draw of pictures.

    `COCOeval.accumulate` looks pictures up by position and cannot be given repeated ids, so the
    matches themselves are drawn: `evalImgs` lists them by class, size range and picture.
    """

    def __init__(
        self,
        truth: Sequence[GroundTruth],
        detections: Sequence[Detections],
        classes: int,
        inclusive: bool,
        *,
        masks: bool = False,
        by_size: bool = True,
    ) -> None:
        with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints
            self._evaluator = COCOeval(
                _coco(truth, classes, inclusive, masks=masks),
                _coco(detections, classes, inclusive, masks=masks),
                "segm" if masks else "bbox",
            )
            params = self._evaluator.params
            params.maxDets = [MAX_DETECTIONS]
            if not by_size:
                params.areaRng, params.areaRngLbl = params.areaRng[:1], params.areaRngLbl[:1]
            self._evaluator.evaluate()
        flat = np.empty(len(self._evaluator.evalImgs), dtype=object)
        flat[:] = self._evaluator.evalImgs
        self._matches = flat.reshape(classes, len(params.areaRng), len(truth))

    @cached_property
    def _classes(self) -> list[_ClassMatches]:
        """Matches of each class, of objects of every size."""
        return [_coco_class(matches) for matches in self._matches[:, 0]]

    def table(self, counts: IntArray) -> FloatArray:
        # what `by_size` gives, in a tenth of the time, for `accumulate` loops over detections
        return np.stack([_101_points(one.curve(counts)) for one in self._classes], axis=1)

    def by_size(self, counts: IntArray) -> FloatArray:
        """As `table`, (size ranges, thresholds, classes): all, small, medium, large; COCOeval's."""
        drawn = np.repeat(np.arange(len(counts)), counts)
        evaluator = copy.copy(self._evaluator)
        evaluator.evalImgs = self._matches[:, :, drawn].ravel().tolist()
        with contextlib.redirect_stdout(io.StringIO()):
            evaluator.accumulate()
        precision = evaluator.eval["precision"][..., 0]  # (thresholds, recalls, classes, sizes)
        table: FloatArray = 100.0 * precision.mean(axis=1).transpose(2, 0, 1)
        table[table < 0] = np.nan  # COCOeval's -1
        return table


def _coco_class(matches: Sequence[dict[str, Any] | None]) -> _ClassMatches:
    """COCOeval's matches of one class and size range, one a picture; None is an empty one."""
    scores, pictures, hits, misses, objects = [], [], [], [], []
    for picture, matched in enumerate(matches):
        objects.append(0 if matched is None else int((np.array(matched["gtIgnore"]) == 0).sum()))
        if matched is None or not matched["dtScores"]:
            continue
        found, counted = matched["dtMatches"] > 0, matched["dtIgnore"] == 0
        hits.append(found & counted)
        misses.append(~found & counted)
        scores.append(np.array(matched["dtScores"], np.float64))
        pictures.append(np.full(len(scores[-1]), picture))
    return _by_score(scores, pictures, hits, misses, objects)


def _coco(
    pictures: Sequence[GroundTruth | Detections],
    classes: int,
    inclusive: bool,
    *,
    masks: bool,
) -> Any:
    """The pictures as a pycocotools data set; ids of annotations start at 1, for 0 is no match."""
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for index, picture in enumerate(pictures):
        encoded = encoded_masks(picture) if masks or isinstance(picture, GroundTruth) else None
        if masks and encoded is None:
            raise ValueError(f"picture {index} has no masks")
        height, width = encoded[0]["size"] if encoded else (0, 0)
        images.append({"id": index, "height": height, "width": width})
        corners = picture.boxes.astype(np.float64) + np.array([0, 0, inclusive, inclusive])
        sizes = corners[:, 2:] - corners[:, :2]
        areas: Sequence[float] | FloatArray = sizes.prod(axis=1)
        if encoded is not None:
            areas = [float(rle_ops.area(rle)) for rle in encoded]
        if isinstance(picture, GroundTruth) and picture.areas is not None:
            areas = picture.areas
        for i in range(len(corners)):
            annotation: dict[str, Any] = {
                "id": len(annotations) + 1,
                "image_id": index,
                "category_id": int(picture.labels[i]),
                "bbox": [*corners[i, :2].tolist(), *sizes[i].tolist()],
                "area": float(areas[i]),
                "iscrowd": 0,
            }
            if isinstance(picture, GroundTruth):
                annotation["iscrowd"] = int(picture.ignore[i])
            else:
                annotation["score"] = float(picture.scores[i])
            if encoded is not None:
                annotation["segmentation"] = encoded[i]
            annotations.append(annotation)
    data = COCO()
    data.dataset = {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": label} for label in range(classes)],
    }
    data.createIndex()
    return data


def encoded_masks(picture: GroundTruth | Detections) -> list[Rle] | None:
    """Masks run-length encoded, as pycocotools compares them; None where there are none."""
    if picture.masks is None:
        return None
    encoded = []
    for mask in picture.masks:
        if isinstance(mask, list):
            assert isinstance(picture, GroundTruth) and picture.size is not None
            encoded.append(rle_ops.merge(rle_ops.frPyObjects(mask, *picture.size)))
        elif isinstance(mask["counts"], list):
            encoded.append(rle_ops.frPyObjects(mask, *mask["size"]))
        else:
            encoded.append(mask)
    return encoded


def _coco_scores(matches: _CocoMatches, counts: IntArray, classes: Sequence[str]) -> CocoScores:
    every, small, medium, large = matches.by_size(counts)
    return CocoScores(
        **_summary(every, classes), small=_mean(small), medium=_mean(medium), large=_mean(large)
    )


def _summary(table: FloatArray, classes: Sequence[str]) -> dict[str, Any]:
    """What `APScores` holds, from AP (thresholds, classes)."""
    return {
        "ap": _mean(table),
        "ap50": _mean(table[_AT_50]),
        "ap75": _mean(table[_AT_75]),
        "by_class": {name: _mean(table[:, k]) for k, name in enumerate(classes)},
        "by_class50": {name: _mean(table[_AT_50, k]) for k, name in enumerate(classes)},
    }


def _mean(values: npt.NDArray[Any]) -> float | None:
    """Mean of what is there; None where nothing is."""
    there = values[~np.isnan(values)]
    return float(there.mean()) if there.size else None


def _named(scores: APScores, prefix: str = "") -> dict[str, float | None]:
    named: dict[str, float | None] = {
        f"{prefix}ap": scores.ap,
        f"{prefix}ap50": scores.ap50,
        f"{prefix}ap75": scores.ap75,
    }
    if isinstance(scores, CocoScores):
        named |= {f"{prefix}ap_{size}": getattr(scores, size) for size in ("small", "medium")}
        named[f"{prefix}ap_large"] = scores.large
    return named


def _check(picture: GroundTruth | Detections, fields: Sequence[str]) -> None:
    boxes = picture.boxes
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise ValueError(f"boxes are {boxes.shape}, not (n, 4)")
    for field in fields:
        shape = getattr(picture, field).shape
        if shape != (len(boxes),):
            raise ValueError(f"{field} are {shape}, not ({len(boxes)},)")
    if picture.masks is not None and len(picture.masks) != len(boxes):
        raise ValueError(f"{len(picture.masks)} masks for {len(boxes)} boxes")
    finite = np.isfinite(boxes).all()
    if not finite or (isinstance(picture, Detections) and not np.isfinite(picture.scores).all()):
        raise ValueError("a box or score is not finite")


def _check_pair(
    truth: Sequence[GroundTruth], detections: Sequence[Detections], classes: Sequence[str]
) -> None:
    if len(truth) != len(detections):
        raise ValueError(f"{len(truth)} pictures, detections of {len(detections)}")
    pictures: list[GroundTruth | Detections] = [*truth, *detections]
    for picture in pictures:
        if len(picture.labels) and not 0 <= picture.labels.min() <= picture.labels.max() < len(
            classes
        ):
            raise ValueError(f"a label is outside 0 ... {len(classes) - 1}")
    if not any((~picture.ignore).any() for picture in truth):
        raise DataError(
            f"none of {len(truth)} pictures has an object that counts; check the annotations"
        )
