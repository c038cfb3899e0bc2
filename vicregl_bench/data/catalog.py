"""The data sets by name."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from vicregl_bench.data import voc
from vicregl_bench.data.ade20k import ADE20K_PALETTE, read_ade20k
from vicregl_bench.data.cityscapes import CITYSCAPES_PALETTE, read_cityscapes
from vicregl_bench.data.classification import (
    ClassificationData,
    MultiLabelData,
    read_folder,
    read_imagenet,
    read_voc07_classification,
)
from vicregl_bench.data.coco import read_coco_detection
from vicregl_bench.data.detection import DetectionData
from vicregl_bench.data.segmentation import SegmentationData, colours_by_label
from vicregl_bench.data.voc import read_voc_segmentation
from vicregl_bench.data.voc_boxes import read_voc_detection
from vicregl_bench.errors import ConfigError

_READERS: dict[str, Callable[..., SegmentationData]] = {
    "voc": read_voc_segmentation,
    "cityscapes": read_cityscapes,
    "ade20k": read_ade20k,
}
SEGMENTATION_SETS = tuple(_READERS)
_DETECTION_READERS: dict[str, Callable[..., DetectionData]] = {
    "voc_boxes": read_voc_detection,
    "coco": read_coco_detection,
}
DETECTION_SETS = tuple(_DETECTION_READERS)
_CLASSIFICATION_READERS: dict[str, Callable[..., ClassificationData]] = {
    "folder": read_folder,
    "imagenet": read_imagenet,
}
CLASSIFICATION_SETS = tuple(_CLASSIFICATION_READERS)
MULTI_LABEL_SETS = ("voc_labels",)


def class_colours(dataset: str) -> npt.NDArray[np.uint8]:
    """(256, 3) colours by label of a data set, without its files; black and pale for ignored.

    Raises:
        ConfigError: no such data set.
    """
    palettes = {
        "voc": voc.class_colours(),
        "cityscapes": CITYSCAPES_PALETTE,
        "ade20k": ADE20K_PALETTE,
    }
    if dataset not in palettes:
        raise ConfigError(f"no data set {dataset!r}: use {', '.join(SEGMENTATION_SETS)}")
    return colours_by_label(palettes[dataset])


def read_segmentation(
    dataset: str, data_root: str | Path, variant: str | None = None
) -> SegmentationData:
    """Read the lists of a segmentation data set.

    Args:
        dataset: "voc", "cityscapes" or "ade20k".
        data_root: where it is; each reader says which folders it takes.
        variant: "voc12aug" or "voc12" of VOC; None is the data set's default.

    Raises:
        ConfigError: no such data set or variant.
        DataError: the data root is incomplete.
    """
    if dataset not in _READERS:
        raise ConfigError(f"no data set {dataset!r}: use {', '.join(SEGMENTATION_SETS)}")
    read = _READERS[dataset]
    return read(data_root) if variant is None else read(data_root, variant=variant)


def read_detection(
    dataset: str, data_root: str | Path, variant: str | None = None
) -> DetectionData:
    """Read the lists of a detection data set.

    Args:
        dataset: "voc_boxes" or "coco".
        data_root: where it is; each reader says which folders it takes.
        variant: "voc0712" or "voc07"; "coco2017" or "coco2017_10pct" and so on; None is the data
            set's default.

    Raises:
        ConfigError: no such data set or variant.
        DataError: the data root is incomplete.
    """
    if dataset not in _DETECTION_READERS:
        raise ConfigError(f"no data set {dataset!r}: use {', '.join(DETECTION_SETS)}")
    read = _DETECTION_READERS[dataset]
    return read(data_root) if variant is None else read(data_root, variant=variant)


def read_classification(
    dataset: str, data_root: str | Path, variant: str | None = None
) -> ClassificationData:
    """Read the lists of a data set of one class a picture.

    Args:
        dataset: "folder" or "imagenet".
        data_root: where it is; each reader says which folders it takes.
        variant: "folder_1pct", "imagenet_10pct" and so on; None is all of it.

    Raises:
        ConfigError: no such data set or variant.
        DataError: the data root is incomplete.
    """
    if dataset not in _CLASSIFICATION_READERS:
        raise ConfigError(f"no data set {dataset!r}: use {', '.join(CLASSIFICATION_SETS)}")
    read = _CLASSIFICATION_READERS[dataset]
    return read(data_root) if variant is None else read(data_root, variant=variant)


def read_multi_label(
    dataset: str, data_root: str | Path, variant: str | None = None
) -> MultiLabelData:
    """Read the lists of a data set of several classes a picture.

    Args:
        dataset: "voc_labels".
        data_root: where it is.
        variant: "voc07" or None, which is the same.

    Raises:
        ConfigError: no such data set or variant.
        DataError: the data root is incomplete.
    """
    if dataset not in MULTI_LABEL_SETS:
        raise ConfigError(f"no data set {dataset!r}: use {', '.join(MULTI_LABEL_SETS)}")
    if variant not in (None, "voc07"):
        raise ConfigError(f"unknown VOC variant {variant!r}: the image labels are of voc07")
    return read_voc07_classification(data_root)
