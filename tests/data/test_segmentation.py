from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vicregl_bench.data import (
    SEGMENTATION_SETS,
    Pair,
    SegmentationData,
    read_segmentation,
)
from vicregl_bench.data.segmentation import MaskValues
from vicregl_bench.errors import ConfigError, DataError

PAIRS = tuple(Pair(f"2012_{number:06d}", Path("i"), Path("m")) for number in range(20))


def test_splits_in_order(made: SegmentationData) -> None:
    dataset = replace(made, train=PAIRS[:2], val=PAIRS[2:3])
    assert list(dataset.splits.items()) == [("train", PAIRS[:2]), ("val", PAIRS[2:3])]


def test_lookup_ignores_what_should_not_occur() -> None:
    lookup = MaskValues("kind", {0: 255, 7: 0, 8: 1}, "text").lookup
    assert lookup.dtype == np.uint8
    assert lookup.shape == (256,)
    assert {value: int(label) for value, label in enumerate(lookup) if label != 255} == {7: 0, 8: 1}


def test_read_labels(made: SegmentationData) -> None:
    pair = made.train[0]
    values = np.asarray(Image.open(pair.mask))
    assert (made.read_labels(pair) == values).all()
    swapped = replace(made, masks=MaskValues("kind", {0: 1, 1: 0, 2: 255}, "text"))
    labels = swapped.read_labels(pair)
    assert labels.dtype == np.uint8
    assert ((labels == 1) == (values == 0)).all()
    assert ((labels == 0) == (values == 1)).all()
    assert ((labels == 255) == (values >= 2)).all()


def test_read_labels_of_bad_masks(made: SegmentationData) -> None:
    Image.new("RGB", (80, 64)).save(made.train[0].mask)
    with pytest.raises(DataError, match=r"2012_000001\.png is of mode RGB: .* data check"):
        made.read_labels(made.train[0])
    made.train[1].mask.unlink()
    with pytest.raises(DataError, match=r"cannot read the mask .*2012_000002\.png"):
        made.read_labels(made.train[1])
    mask = made.train[2].mask
    mask.write_bytes(mask.read_bytes()[:-40])
    with pytest.raises(DataError, match=r"cannot read the mask .*2012_000003\.png"):
        made.read_labels(made.train[2])


def test_colour_map_of_classes_and_ignored(made: SegmentationData) -> None:
    colours = replace(made, palette=((1, 2, 3), (4, 5, 6))).colour_map()
    assert colours.dtype == np.uint8
    assert colours[:3].tolist() == [[1, 2, 3], [4, 5, 6], [0, 0, 0]]
    assert colours[255].tolist() == [224, 224, 192]


@pytest.mark.parametrize("name", SEGMENTATION_SETS)
def test_catalog_reads_every_set_it_names(
    name: str, made: SegmentationData, cityscapes: SegmentationData, ade20k: SegmentationData
) -> None:
    expected = {"voc": made, "cityscapes": cityscapes, "ade20k": ade20k}[name]
    dataset = read_segmentation(name, expected.root, expected.variant)
    assert dataset == expected
    assert dataset.name == name
    assert len(dataset.palette) == len(dataset.classes) == len(set(dataset.classes))
    assert set(dataset.masks.labels.values()) <= {*range(len(dataset.classes)), 255}


def test_catalog_without_variant_takes_the_default(made: SegmentationData) -> None:
    dataset = read_segmentation("voc", made.root)
    assert dataset.notes[0].startswith("voc12 (3 train) in place of voc12aug")


def test_catalog_refuses(made: SegmentationData) -> None:
    with pytest.raises(ConfigError, match=r"no data set 'coco': use voc, cityscapes, ade20k"):
        read_segmentation("coco", made.root)
    for name, match in (("voc", "voc12aug, voc12"), ("cityscapes", "fine"), ("ade20k", "chall")):
        with pytest.raises(ConfigError, match=match):
            read_segmentation(name, made.root, "coarse")
