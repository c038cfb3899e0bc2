"""The data sets by name."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

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
from vicregl_bench.data.inat18 import read_inat18
from vicregl_bench.data.places205 import read_places205
from vicregl_bench.data.segmentation import SegmentationData, colours_by_label
from vicregl_bench.data.transfer import TRANSFER_READERS
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
    "places205": read_places205,
    "inat18": read_inat18,
    **TRANSFER_READERS,
}
CLASSIFICATION_SETS = tuple(_CLASSIFICATION_READERS)
_MULTI_LABEL_READERS: dict[str, Callable[..., MultiLabelData]] = {
    "voc_labels": read_voc07_classification,
}
MULTI_LABEL_SETS = tuple(_MULTI_LABEL_READERS)

_Data = TypeVar("_Data")


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
    return _read(_READERS, dataset, data_root, variant)


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
    return _read(_DETECTION_READERS, dataset, data_root, variant)


def read_classification(
    dataset: str, data_root: str | Path, variant: str | None = None
) -> ClassificationData:
    """Read the lists of a data set of one class a picture.

    Args:
        dataset: "folder", "imagenet", "places205", "inat18", or one of `transfer.TRANSFER_SETS`.
        data_root: where it is; each reader says which folders it takes.
        variant: "folder_1pct", "imagenet_10pct" and so on; None is all of it.

    Raises:
        ConfigError: no such data set or variant.
        DataError: the data root is incomplete.
    """
    return _read(_CLASSIFICATION_READERS, dataset, data_root, variant)


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
    return _read(_MULTI_LABEL_READERS, dataset, data_root, variant)


def _read(
    readers: Mapping[str, Callable[..., _Data]],
    dataset: str,
    data_root: str | Path,
    variant: str | None,
) -> _Data:
    """What the reader of a data set makes of its default variant or another.

    Raises:
        ConfigError: no such data set or variant.
        DataError: the data root is incomplete.
    """
    if dataset not in readers:
        raise ConfigError(f"no data set {dataset!r}: use {', '.join(readers)}")
    read = readers[dataset]
    return read(data_root) if variant is None else read(data_root, variant=variant)
