from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vicregl_bench.data import SegmentationData, read_segmentation
from vicregl_bench.data.cityscapes import (
    CITYSCAPES_CLASSES,
    COUNTS,
    LABEL_IDS,
    TRAIN_IDS,
    read_cityscapes,
)
from vicregl_bench.errors import DataError


def make_tree(root: Path, train: int = 1, val: int = 1, kinds: tuple[str, ...] = ()) -> Path:
    """Empty files in the official tree."""
    for split, city, count in (("train", "aachen", train), ("val", "munster", val)):
        pictures, masks = (root / part / split / city for part in ("leftImg8bit", "gtFine"))
        pictures.mkdir(parents=True)
        masks.mkdir(parents=True)
        for number in range(count):
            name = f"{city}_{number:06d}_000019"
            (pictures / f"{name}_leftImg8bit.png").touch()
            for kind in (*kinds, "color", "instanceIds"):
                (masks / f"{name}_gtFine_{kind}.png").touch()
    return root


def all_masks(dataset: SegmentationData) -> list[Path]:
    return [pair.mask for pairs in dataset.splits.values() for pair in pairs]


def test_train_ids_are_the_official_ones() -> None:
    assert sorted(TRAIN_IDS) == list(range(34))
    # `id` and `trainId` of cityscapesscripts/helpers/labels.py
    assert {id_: train_id for id_, train_id in TRAIN_IDS.items() if train_id != 255} == {
        **{7: 0, 8: 1, 11: 2, 12: 3, 13: 4, 17: 5, 19: 6, 20: 7, 21: 8, 22: 9, 23: 10},
        **{24: 11, 25: 12, 26: 13, 27: 14, 28: 15, 31: 16, 32: 17, 33: 18},
    }


def test_names_and_colours_are_those_of_mmseg(cityscapes: SegmentationData) -> None:
    from mmseg.utils import get_classes, get_palette

    assert list(CITYSCAPES_CLASSES) == get_classes("cityscapes")
    assert [list(colour) for colour in cityscapes.palette] == get_palette("cityscapes")


def test_lists(cityscapes: SegmentationData) -> None:
    root = cityscapes.root
    assert (cityscapes.name, cityscapes.variant) == ("cityscapes", "fine")
    assert [pair.name for pair in cityscapes.train] == [
        "eastford_000002_000019",
        "westford_000001_000019",
        "westford_000003_000019",
    ]
    pair = cityscapes.train[0]
    folder = "train/eastford/eastford_000002_000019"
    assert pair.image == root / f"leftImg8bit/{folder}_leftImg8bit.png"
    assert pair.mask == root / f"gtFine/{folder}_gtFine_labelTrainIds.png"
    assert cityscapes.notes == (
        "3 train pictures, Cityscapes has 2,975",
        "2 val pictures, Cityscapes has 500",
    )


def test_the_published_counts_leave_no_note(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert COUNTS == {"train": 2_975, "val": 500}
    monkeypatch.setitem(COUNTS, "train", 3)
    monkeypatch.setitem(COUNTS, "val", 2)
    dataset = read_cityscapes(make_tree(tmp_path, 3, 2, kinds=("labelIds",)))
    assert (len(dataset.train), len(dataset.val)) == (3, 2)
    assert dataset.notes == ()


def test_ids_give_the_labels_of_train_ids_and_write_nothing(cityscapes: SegmentationData) -> None:
    expected = [cityscapes.read_labels(pair) for pair in (*cityscapes.train, *cityscapes.val)]
    for path in all_masks(cityscapes):
        path.unlink()
    before = sorted(cityscapes.root.rglob("*"))
    dataset = read_segmentation("cityscapes", cityscapes.root)
    assert dataset.masks is LABEL_IDS
    assert all(path.name.endswith("_gtFine_labelIds.png") for path in all_masks(dataset))
    labels = [dataset.read_labels(pair) for pair in (*dataset.train, *dataset.val)]
    assert len(labels) == 5
    for ours, theirs in zip(labels, expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)
        assert len(np.unique(ours)) >= 3  # road, border and an object
    assert sorted(cityscapes.root.rglob("*")) == before


def test_every_id_becomes_its_train_id(tmp_path: Path) -> None:
    dataset = read_cityscapes(make_tree(tmp_path, kinds=("labelIds",)))
    Image.fromarray(np.arange(34, dtype=np.uint8)[None]).save(dataset.val[0].mask)
    assert dataset.read_labels(dataset.val[0]).tolist() == [list(TRAIN_IDS.values())]
    assert dataset.read_labels(dataset.val[0])[0, 26] == CITYSCAPES_CLASSES.index("car")


def test_kind_of_masks_that_is_complete_is_taken(tmp_path: Path) -> None:
    root = make_tree(tmp_path, 3, 2, kinds=("labelIds", "labelTrainIds"))
    assert read_cityscapes(root).masks.kind == "labelTrainIds"
    train_ids = sorted(root.rglob("*_labelTrainIds.png"))
    train_ids[0].unlink()  # cityscapesscripts was interrupted
    dataset = read_cityscapes(root)
    assert dataset.masks.kind == "labelIds"
    assert all(path.is_file() for path in all_masks(dataset))
    for path in sorted(root.rglob("*_labelIds.png"))[:2]:
        path.unlink()
    assert read_cityscapes(root).masks.kind == "labelTrainIds"  # one lacks, of labelIds two


def test_parent_is_a_data_root(tmp_path: Path) -> None:
    root = make_tree(tmp_path / "cityscapes", kinds=("labelIds",))
    assert read_cityscapes(tmp_path).root == root
    assert read_cityscapes(str(root)).root == root


def test_hidden_files_are_no_pictures(tmp_path: Path) -> None:
    root = make_tree(tmp_path, kinds=("labelIds",))
    (root / "leftImg8bit/train/aachen/._aachen_000000_000019_leftImg8bit.png").touch()
    assert len(read_cityscapes(root).train) == 1


def test_missing_folders_are_named(tmp_path: Path) -> None:
    root = make_tree(tmp_path, kinds=("labelIds",))
    (root / "gtFine").rename(root / "gtCoarse")
    with pytest.raises(DataError) as caught:
        read_cityscapes(root)
    text = str(caught.value)
    assert f"{root} (without gtFine/train, gtFine/val)" in text
    assert f"{root / 'cityscapes'} (no such folder)" in text
    assert "gtFine_trainvaltest.zip" in text
    assert "\n" not in text


def test_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="neither _gtFine_labelTrainIds"):
        read_cityscapes(make_tree(tmp_path / "a"))
    root = make_tree(tmp_path / "b", val=0, kinds=("labelIds",))
    with pytest.raises(DataError, match=r"leftImg8bit/val holds no CITY/\*_leftImg8bit\.png"):
        read_cityscapes(root)


def test_a_picture_in_both_splits_is_refused(tmp_path: Path) -> None:
    root = make_tree(tmp_path, kinds=("labelIds",))
    folder = root / "leftImg8bit/val/aachen"
    folder.mkdir()
    (folder / "aachen_000000_000019_leftImg8bit.png").touch()
    with pytest.raises(DataError, match="both train and val, the first is aachen_000000_000019"):
        read_cityscapes(root)
