"""The pictures of a data set of any kind, with their classes where each has one."""

from pathlib import Path

from vicregl_bench.data import (
    ClassificationData,
    MultiLabelData,
    MultiLabelled,
    Pair,
    read_classification,
    read_segmentation,
)

Pictures = ClassificationData | MultiLabelData


def read_pictures(dataset: str, data_root: Path, variant: str) -> Pictures:
    """Read the lists of a data set; VOC's pictures of segmentation are without classes and masks.

    Args:
        dataset: "folder", "imagenet" or "voc".
        data_root: where it is.
        variant: of the data set.

    Raises:
        DataError: the data root is incomplete.
        ConfigError: no such variant.
    """
    if dataset != "voc":
        return read_classification(dataset, data_root, variant)
    data = read_segmentation(dataset, data_root, variant)
    return MultiLabelData(
        name=data.name,
        variant=data.variant,
        root=data.root,
        classes=(),
        train=tuple(map(_picture, data.train)),
        val=tuple(map(_picture, data.val)),
        notes=data.notes,
    )


def _picture(pair: Pair) -> MultiLabelled:
    return MultiLabelled(pair.name, pair.image, labels=(), sources=())
