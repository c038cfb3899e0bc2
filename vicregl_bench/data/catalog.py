"""The data sets by name."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from vicregl_bench.data import voc
from vicregl_bench.data.ade20k import ADE20K_PALETTE, read_ade20k
from vicregl_bench.data.cityscapes import CITYSCAPES_PALETTE, read_cityscapes
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
