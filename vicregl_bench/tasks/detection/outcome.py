"""What K detection heads found in every picture, with what is there: all that AP needs."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from vicregl_bench.tasks.detection.metric import (
    AT_50,
    AT_75,
    Convention,
    Detections,
    GroundTruth,
    Matches,
    Measure,
    Rle,
    encoded_masks,
    match_pictures,
    score,
)
from vicregl_bench.tasks.interval import FloatArray, IntArray, mean_of_classes
from vicregl_bench.tasks.outcome import HeadScore, Outcome

Arrays = dict[str, Any]
_RESAMPLES = 200
_THRESHOLDS = {"ap": slice(None), "ap50": slice(AT_50, AT_50 + 1), "ap75": slice(AT_75, AT_75 + 1)}
_Objects = Sequence[GroundTruth] | Sequence[Detections]


@dataclass(frozen=True, eq=False)
class DetectionOutcome(Outcome):
    """Detections of K heads in N pictures.

    Files hold boxes and scores of detections in float32: where the values here are such numbers,
    scores before and after a file are equal.

    Raises:
        ValueError: the numbers of pictures differ, or masks or areas are there in some alone.
    """

    names: tuple[str, ...]  # N pictures
    truth: tuple[GroundTruth, ...]  # N
    found: tuple[tuple[Detections, ...], ...]  # K heads, N
    classes: int
    convention: Convention
    inclusive: bool = False  # x2 and y2 are last pixels, see `metric`
    _scores: dict[int, HeadScore] = field(default_factory=dict, init=False, repr=False)
    _matched: dict[tuple[int, Measure], Matches] = field(
        default_factory=dict, init=False, repr=False
    )
    truth_arrays: ClassVar[tuple[str, ...]] = (
        "classes",
        "convention",
        "inclusive",
        "truth_offsets",
        "truth_boxes",
        "truth_labels",
        "truth_ignore",
        "truth_areas",
        "truth_mask_offsets",
        "truth_mask_sizes",
        "truth_mask_counts",
    )

    def __post_init__(self) -> None:
        for one in (self.truth, *self.found):
            if len(one) != len(self.names):
                raise ValueError(f"{len(self.names)} names of {len(one)} pictures")
        every = [picture for head in self.found for picture in head]
        for objects in (self.truth, every):
            if len({picture.masks is None for picture in objects}) > 1:
                raise ValueError("some pictures have masks, others have none")
        if len({there.areas is None for there in self.truth}) > 1:
            raise ValueError("some pictures have areas of objects, others have none")

    def head(self, k: int) -> HeadScore:
        """Every AP of head k; by class the boxes' main one, 50 to 95 % IoU.

        Raises:
            DataError: no object counts.
        """
        if k not in self._scores:
            scores = score(
                self.truth,
                self.found[k],
                self._class_names,
                convention=self.convention,
                inclusive=self.inclusive,
            )
            self._scores[k] = HeadScore(
                score=scores.main.ap,
                scores=scores.named(),
                by_class=tuple(scores.main.by_class.values()),
            )
        return self._scores[k]

    @property
    def heads(self) -> int:
        """K."""
        return len(self.found)

    @property
    def metrics(self) -> tuple[str, ...]:
        """The boxes' main APs, on VOC COCO's too, and the masks' where there are masks."""
        kinds = ["", *(["coco_"] if self.convention == "voc" else [])]
        if all(found.masks is not None for head in self.found for found in head):
            kinds.append("mask_")
        return tuple(f"{kind}{name}" for kind in kinds for name in _THRESHOLDS)

    def weighted(
        self, heads: Sequence[int], weights: FloatArray, metric: str | None = None
    ) -> FloatArray:
        """Scores (R, 1 + C) with the pictures weighted.

        1,000 weightings of 5,000 pictures with 20 classes and 20 detections each take some 9 s of
        CPU a head, whatever the metric: all thresholds are computed. Blocks that fit the cache are
        no faster, and recalls compared to 12 decimals need float64.

        Raises:
            DataError: no object counts.
        """
        kind, _, name = self._metric(metric).rpartition("_")
        measures: dict[str, Measure] = {"": self.convention, "coco": "coco", "mask": "segm"}
        each = [
            self._matches(k, measures[kind]).tables(weights)[:, _THRESHOLDS[name]] for k in heads
        ]
        by_class = np.mean(each, axis=(0, 2))
        return np.column_stack([mean_of_classes(by_class), by_class])

    def _matches(self, k: int, measure: Measure) -> Matches:
        if (k, measure) not in self._matched:
            self._matched[k, measure] = match_pictures(
                self.truth,
                self.found[k],
                self._class_names,
                measure=measure,
                inclusive=self.inclusive,
            )
        return self._matched[k, measure]

    def resamples(self) -> Iterable[FloatArray]:
        """How often each picture is drawn (200, N), with replacement: what `interval` goes by.

        A draw's score averages over the classes that have objects in it. Comparisons go by
        `interval.bayesian_weights` instead, as those of other outcomes do.
        """
        count = len(self.names)
        generator = np.random.default_rng(0)
        yield generator.multinomial(count, [1.0 / count] * count, size=_RESAMPLES).astype(float)

    def class_pictures(self) -> IntArray:
        """(C,) pictures with an object of each class that counts."""
        there = [np.unique(one.labels[~one.ignore]) for one in self.truth]
        return np.bincount(np.concatenate([np.zeros(0, np.int64), *there]), minlength=self.classes)

    def reordered(self, order: Sequence[int]) -> "DetectionOutcome":
        """The same pictures in another order."""
        return replace(
            self,
            names=tuple(self.names[i] for i in order),
            truth=tuple(self.truth[i] for i in order),
            found=tuple(tuple(head[i] for i in order) for head in self.found),
        )

    def to_arrays(self, heads: Sequence[int] | None = None) -> Arrays:
        """Plain arrays, for a file; of some heads alone where that is asked for.

        Objects of all pictures (and heads) follow one another; `..._offsets` say where each
        picture begins, and the last one's end. Masks are run-length codes, polygons too.
        """
        chosen = self.found if heads is None else tuple(self.found[k] for k in heads)
        every = [picture for head in chosen for picture in head]
        arrays: Arrays = {
            "names": np.array(self.names, dtype=np.str_),
            "heads": np.array(len(chosen), dtype=np.int32),
            "classes": np.array(self.classes, dtype=np.int32),
            "convention": np.array(self.convention),
            "inclusive": np.array(self.inclusive),
            # of annotations the file's own numbers, which need not be float32
            **_flat(self.truth, "truth", np.float64),
            "truth_ignore": _joined([there.ignore for there in self.truth], np.bool_),
            **_flat(every, "found", np.float32),
            "found_scores": _joined([found.scores for found in every], np.float32),
        }
        areas = [there.areas for there in self.truth if there.areas is not None]
        if areas:
            arrays["truth_areas"] = _joined(areas, np.float64)
        return arrays

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Any]) -> "DetectionOutcome":
        """What `to_arrays` gave.

        Raises:
            KeyError: an array is missing.
            ValueError: they do not fit together.
        """
        names = tuple(map(str, arrays["names"]))
        convention = str(arrays["convention"])
        if convention not in ("voc", "coco"):
            raise ValueError(f"there is no convention {convention!r}")
        truth_masks, found_masks = (_unflat_masks(arrays, kind) for kind in ("truth", "found"))
        areas = arrays.get("truth_areas")
        truth = tuple(
            GroundTruth(
                boxes=arrays["truth_boxes"][place].astype(np.float64),
                labels=arrays["truth_labels"][place].astype(np.int64),
                ignore=arrays["truth_ignore"][place].astype(np.bool_),
                masks=None if truth_masks is None else truth_masks[place],
                areas=None if areas is None else areas[place].astype(np.float64),
            )
            for place in _places(arrays["truth_offsets"])
        )
        every = [
            Detections(
                boxes=arrays["found_boxes"][place].astype(np.float64),
                scores=arrays["found_scores"][place].astype(np.float64),
                labels=arrays["found_labels"][place].astype(np.int64),
                masks=None if found_masks is None else found_masks[place],
            )
            for place in _places(arrays["found_offsets"])
        ]
        classes = int(arrays["classes"])
        for labels in (arrays["truth_labels"], arrays["found_labels"]):
            if labels.size and not 0 <= labels.min() <= labels.max() < classes:
                raise ValueError(f"a label is outside 0 ... {classes - 1}")
        heads, count = int(arrays["heads"]), len(names)
        if len(every) != heads * count:
            raise ValueError(f"{len(every)} lists of detections, not {heads} x {count}")
        return cls(
            names=names,
            truth=truth,
            found=tuple(tuple(every[k * count : (k + 1) * count]) for k in range(heads)),
            classes=classes,
            convention="voc" if convention == "voc" else "coco",
            inclusive=bool(arrays["inclusive"]),
        )

    @classmethod
    def together(cls, outcomes: Sequence["DetectionOutcome | None"]) -> "DetectionOutcome | None":
        """Outcomes of one head each as one, nothing found where there is none; None if all are."""
        first = next((one for one in outcomes if one is not None), None)
        if first is None:
            return None
        assert all(one.names == first.names for one in outcomes if one is not None)
        masks = None if any(found.masks is None for found in first.found[0]) else ()
        nothing = Detections(np.zeros((0, 4)), np.zeros(0), np.zeros(0, np.int64), masks)
        heads = [((nothing,) * len(first.names),) if one is None else one.found for one in outcomes]
        return cls(
            names=first.names,
            truth=first.truth,
            found=tuple(found for head in heads for found in head),
            classes=first.classes,
            convention=first.convention,
            inclusive=first.inclusive,
        )

    @property
    def _class_names(self) -> tuple[str, ...]:
        return tuple(map(str, range(self.classes)))


def _flat(pictures: _Objects, kind: str, numbers: type[np.floating[Any]]) -> Arrays:
    """What truth and detections have in common, and where each picture's begins."""
    arrays = {
        f"{kind}_offsets": _offsets([len(picture.boxes) for picture in pictures]),
        f"{kind}_boxes": _joined([picture.boxes for picture in pictures], numbers, (0, 4)),
        f"{kind}_labels": _joined([picture.labels for picture in pictures], np.int32),
    }
    encoded = [encoded_masks(picture) for picture in pictures]
    if not encoded or any(masks is None for masks in encoded):
        return arrays
    masks = [mask for picture in encoded for mask in picture or ()]
    counts = [_counts(mask) for mask in masks]
    return arrays | {
        f"{kind}_mask_offsets": _offsets([len(code) for code in counts]),
        f"{kind}_mask_sizes": np.array([mask["size"] for mask in masks], np.int32).reshape(-1, 2),
        f"{kind}_mask_counts": np.frombuffer(b"".join(counts), dtype=np.uint8),
    }


def _counts(mask: Rle) -> bytes:
    counts = mask["counts"]
    return counts.encode() if isinstance(counts, str) else bytes(counts)


def _unflat_masks(arrays: Mapping[str, Any], kind: str) -> list[Rle] | None:
    if f"{kind}_mask_offsets" not in arrays:
        return None
    places = _places(arrays[f"{kind}_mask_offsets"])
    sizes, counts = arrays[f"{kind}_mask_sizes"], arrays[f"{kind}_mask_counts"]
    return [
        {"size": size.tolist(), "counts": counts[place].tobytes()}
        for size, place in zip(sizes, places, strict=True)
    ]


def _joined(
    parts: Sequence[npt.NDArray[Any]], dtype: type[np.generic], empty: tuple[int, ...] = (0,)
) -> npt.NDArray[Any]:
    joined: npt.NDArray[Any] = np.concatenate([np.zeros(empty), *parts]).astype(dtype)
    return joined


def _offsets(lengths: Sequence[int]) -> npt.NDArray[np.int64]:
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)


def _places(offsets: npt.NDArray[np.int64]) -> list[slice]:
    """Where each part lies among all."""
    starts = offsets.tolist()
    return [slice(start, end) for start, end in pairwise(starts)]
