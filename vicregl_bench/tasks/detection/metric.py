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

Matching is that of mmdet's `tpfp_default` for VOC, with the 11 points of its `average_precision`
(what `eval_map` runs), pycocotools' COCOeval for COCO. Deviations of the
former from detectron2's evaluator: scores are not rounded to three decimals nor boxes to one, equal
scores keep the order of the pictures, an IoU equal to the threshold matches (as in the devkit;
detectron2 wants more), and a class without objects that count is left out of the mean (there it is
a NaN or 0).
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
from mmdet.evaluation.functional import bbox_overlaps
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
AT_50, AT_75 = 0, 5
_VOC_RECALLS: FloatArray = np.arange(
    0, 1 + 1e-3, 0.1, dtype=np.float64
)  # mmdet's `average_precision`
_COCO_RECALLS: FloatArray = np.linspace(0.0, 1.0, 101, dtype=np.float64)
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
        table = _VocMatches(truth, detections, len(classes), inclusive).tables(once[None])[0]
        voc = APScores(**_summary(table, classes))
    segm = None
    if all(found.masks is not None for found in detections):
        segm = _coco_scores(
            _CocoMatches(truth, detections, len(classes), inclusive, masks=True), once, classes
        )
    boxes = _CocoMatches(truth, detections, len(classes), inclusive)
    return DetectionScores(voc=voc, coco=_coco_scores(boxes, once, classes), segm=segm)


class Matches(Protocol):
    """Pictures matched once, to be weighted any number of times."""

    def tables(self, weights: npt.NDArray[Any]) -> FloatArray:
        """AP in percent (R, thresholds, classes), with the pictures weighted (R, N).

        A whole weight is that of the picture being there so many times. NaN where a class has no
        objects, or none of a weight.
        """


def match_pictures(
    truth: Sequence[GroundTruth],
    detections: Sequence[Detections],
    classes: Sequence[str],
    *,
    measure: Measure,
    inclusive: bool = False,
) -> Matches:
    """Match the detections of a set of pictures, once for any number of weightings.

    Args:
        truth: as for `score`.
        detections: as for `score`.
        classes: as for `score`.
        measure: "voc" for the VOC-style AP, "coco" for COCO's of boxes, "segm" of masks.
        inclusive: as for `score`.

    Raises:
        DataError: if no object counts.
        ValueError: if truth and detections do not fit together.
    """
    _check_pair(truth, detections, classes)
    if measure == "voc":
        return _VocMatches(truth, detections, len(classes), inclusive)
    return _CocoMatches(
        truth, detections, len(classes), inclusive, masks=measure == "segm", by_size=False
    )


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

    def tables(self, weights: npt.NDArray[Any]) -> FloatArray:
        """See `Matches`."""
        return _tables(self._classes, weights, _VOC_RECALLS)


@dataclass(frozen=True)
class _ClassMatches:
    """One class's detections by falling score."""

    picture: IntArray  # (n,)
    hits: BoolArray  # (thresholds, n) true positives
    misses: BoolArray  # (thresholds, n) false positives
    objects: IntArray  # (N,) objects that count, a picture

    def average_precisions(self, weights: npt.NDArray[Any], recalls: FloatArray) -> FloatArray:
        """AP in percent (R, thresholds): mean over recalls of the highest precision from there on.

        Precision is highest at true positives, so that the curve is computed at these alone. A
        picture counted twice raises the running sums by two at once. That leaves out points of the
        curve which never are the highest at their recall, so the AP is that of the picture being
        there twice. Running sums of weights that are not whole end beside 1: recalls are rounded to
        12 decimals, which changes none that is a fraction of less than 10^9 objects.
        """
        objects = weights @ self.objects
        found = np.zeros((len(weights), len(IOU_THRESHOLDS)))
        own = np.take(weights, self.picture, axis=1).astype(np.float64)
        seen_all = np.cumsum(own, axis=1)
        for threshold, (hits, misses) in enumerate(zip(self.hits, self.misses, strict=True)):
            at, passed = np.flatnonzero(hits), np.flatnonzero(~(hits | misses))
            if not at.size:
                continue
            right, seen = np.cumsum(own[:, at], axis=1), seen_all[:, at]
            if passed.size:
                over = np.pad(np.cumsum(own[:, passed], axis=1), ((0, 0), (1, 0)))
                seen -= over[:, np.searchsorted(passed, at)]
            precision = right / np.maximum(seen, np.finfo(np.float32).eps)
            highest = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
            highest = np.pad(highest, ((0, 0), (0, 1)))  # 0 beyond the last recall
            reached = _first_reached(right / np.maximum(objects, 1e-300)[:, None], recalls)
            found[:, threshold] = 100.0 * np.take_along_axis(highest, reached, axis=1).mean(axis=1)
        found[objects == 0] = np.nan
        return found


def _first_reached(recall: FloatArray, recalls: FloatArray) -> IntArray:
    """(R, A) place in each row of `recall` (R, h), which rise, of the first no less than A recalls.

    h where there is none. Recalls are compared after rounding to 12 decimals, as whole numbers, so
    that one search does for all rows.
    """
    scale, apart = 1e12, 2 * 10**12
    asked = np.rint(recalls * scale)
    asked += asked / scale < recalls
    rows = np.arange(len(recall))[:, None]
    keys = np.rint(np.minimum(recall, 1.5) * scale).astype(np.int64) + apart * rows
    places = np.searchsorted(keys.ravel(), (asked.astype(np.int64) + apart * rows).ravel())
    reached: IntArray = places.reshape(len(recall), -1) - rows * recall.shape[1]
    return reached


def _tables(
    classes: Sequence[_ClassMatches], weights: npt.NDArray[Any], recalls: FloatArray
) -> FloatArray:
    """AP in percent (R, thresholds, classes)."""
    return np.stack([one.average_precisions(weights, recalls) for one in classes], axis=2)


def _match_class(
    truth: Sequence[GroundTruth], detections: Sequence[Detections], label: int, inclusive: bool
) -> _ClassMatches:
    scores, pictures, hits, misses, objects = [], [], [], [], []
    for picture, (there, found) in enumerate(zip(truth, detections, strict=True)):
        there_is, found_is = there.labels == label, found.labels == label
        objects.append(int((there_is & ~there.ignore).sum()))
        if not found_is.any():
            continue
        scores.append(found.scores[found_is])
        pictures.append(np.full(len(scores[-1]), picture))
        hit, missed = _match_picture(
            found.boxes[found_is],
            scores[-1],
            there.boxes[there_is],
            there.ignore[there_is],
            inclusive=inclusive,
        )
        hits.append(hit)
        misses.append(missed)
    return _by_score(scores, pictures, hits, misses, objects)


def _match_picture(
    boxes: FloatArray,
    scores: FloatArray,
    objects: FloatArray,
    ignore: BoolArray,
    *,
    inclusive: bool,
) -> tuple[BoolArray, BoolArray]:
    """As mmdet's `tpfp_default` at all thresholds at once, of one class in one picture.

    A detection is for the object that it overlaps most. The best-scored one of each object is
    right, the others are wrong, and those of an ignored object neither.

    Returns:
        True and false positives (thresholds, n).
    """
    hits = np.zeros((len(IOU_THRESHOLDS), len(boxes)), bool)
    misses = np.ones_like(hits)
    if not len(objects):
        return hits, misses
    counted_first = np.argsort(ignore, kind="stable")
    objects, ignore = objects[counted_first], ignore[counted_first]
    overlaps = bbox_overlaps(boxes, objects, use_legacy_coordinate=inclusive)
    nearest = overlaps.argmax(axis=1)
    enough = overlaps.max(axis=1) >= np.array(IOU_THRESHOLDS, overlaps.dtype)[:, None]
    order = np.argsort(-scores)
    for index in np.unique(nearest):
        own = order[nearest[order] == index]
        reached = enough[:, own]
        if ignore[index]:
            misses[:, own] = ~reached
        else:
            first = reached & (np.cumsum(reached, axis=1) == 1)
            hits[:, own], misses[:, own] = first, ~first
    return hits, misses


def _by_score(
    scores: Sequence[npt.NDArray[Any]],
    pictures: Sequence[IntArray],
    hits: Sequence[npt.NDArray[Any]],
    misses: Sequence[npt.NDArray[Any]],
    objects: Sequence[int],
) -> _ClassMatches:
    """One class's detections, given picture by picture; of equal score in that order."""
    if not scores:
        nothing = np.zeros((len(IOU_THRESHOLDS), 0), bool)
        return _ClassMatches(np.zeros(0, np.int64), nothing, nothing, np.array(objects))
    order = np.argsort(-np.concatenate(scores), kind="stable")
    return _ClassMatches(
        picture=np.concatenate(pictures)[order],
        hits=np.hstack(hits)[:, order].astype(bool),
        misses=np.hstack(misses)[:, order].astype(bool),
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

    def tables(self, weights: npt.NDArray[Any]) -> FloatArray:
        """See `Matches`; what `by_size` gives, far faster: `accumulate` loops over detections."""
        return _tables(self._classes, weights, _COCO_RECALLS)

    def by_size(self, counts: IntArray) -> FloatArray:
        """AP (size ranges, thresholds, classes): all, small, medium, large; COCOeval's."""
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
        "ap50": _mean(table[AT_50]),
        "ap75": _mean(table[AT_75]),
        "by_class": {name: _mean(table[:, k]) for k, name in enumerate(classes)},
        "by_class50": {name: _mean(table[AT_50, k]) for k, name in enumerate(classes)},
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
