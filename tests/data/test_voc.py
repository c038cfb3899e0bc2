from pathlib import Path

import numpy as np
import pytest

from vicregl_bench.data import voc
from vicregl_bench.data.segmentation import Pair
from vicregl_bench.data.voc import (
    CLASSES,
    TRAIN_COUNT,
    VAL_COUNT,
    palette,
    read_voc_segmentation,
)
from vicregl_bench.errors import ConfigError, DataError


def make_lists(
    devkit: Path, train: str, val: str, aug: tuple[str, ...] | None = None, listed: str = ""
) -> Path:
    root = devkit / "VOC2012"
    for folder in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (root / folder).mkdir(parents=True)
    (root / "ImageSets/Segmentation/train.txt").write_text(train)
    (root / "ImageSets/Segmentation/val.txt").write_text(val)
    if aug is not None:
        (root / "SegmentationClassAug").mkdir()
        for name in aug:
            (root / "SegmentationClassAug" / f"{name}.png").touch()
    if listed:
        (root / "ImageSets/Segmentation/trainaug.txt").write_text(listed)
    return root


def names(pairs: tuple[Pair, ...]) -> list[str]:
    return [f"{pair.mask.parent.name}/{pair.name}" for pair in pairs]


def test_palette_is_the_devkits() -> None:
    colours = palette()
    assert colours.shape == (256, 3)
    assert colours.dtype == np.uint8
    # Names and colours as the devkit's page on segmentation gives them.
    known = {
        "background": (0, 0, 0),
        "aeroplane": (128, 0, 0),
        "bicycle": (0, 128, 0),
        "chair": (192, 0, 0),
        "person": (192, 128, 128),
        "tvmonitor": (0, 64, 128),
    }
    assert {name: tuple(colours[CLASSES.index(name)].tolist()) for name in known} == known
    assert colours[255].tolist() == [224, 224, 192]


def test_without_augmented_masks_the_variant_is_voc12_and_noted(tmp_path: Path) -> None:
    root = make_lists(tmp_path / "VOCdevkit", "a\n\n b 1\n", "c\n\n")
    dataset = read_voc_segmentation(tmp_path)
    assert dataset.root == root
    assert dataset.variant == "voc12"
    assert names(dataset.train) == ["SegmentationClass/a", "SegmentationClass/b"]
    assert dataset.val == (Pair("c", root / "JPEGImages/c.jpg", root / "SegmentationClass/c.png"),)
    assert dataset.notes == (
        "voc12 (2 train) in place of voc12aug: no SegmentationClassAug in the data root",
        "2 train pictures, voc12 has 1464",
        "1 val pictures, voc12 has 1449",
    )


def test_voc12_asked_for_is_no_departure(tmp_path: Path) -> None:
    make_lists(tmp_path / "VOCdevkit", "a\n", "c\n", aug=("a", "z"))
    dataset = read_voc_segmentation(tmp_path, variant="voc12")
    assert names(dataset.train) == ["SegmentationClass/a"]
    assert not any("in place of" in note for note in dataset.notes)


@pytest.mark.parametrize(
    "listed",
    ["", "a\nx\ny\n", "/JPEGImages/x.jpg /SegmentationClassAug/x.png\n/JPEGImages/y.jpg m\n"],
)
def test_augmented_train_list(tmp_path: Path, listed: str) -> None:
    make_lists(
        tmp_path / "VOCdevkit", "b\na\n", "c\n", aug=("y", "x", "a", "b", "c"), listed=listed
    )
    dataset = read_voc_segmentation(tmp_path)
    assert dataset.variant == "voc12aug"
    assert names(dataset.train) == [
        "SegmentationClass/b",
        "SegmentationClass/a",
        "SegmentationClassAug/x",
        "SegmentationClassAug/y",
    ]
    assert "4 train pictures, voc12aug has 10582" in dataset.notes


def test_the_published_counts_leave_no_note(tmp_path: Path) -> None:
    ids = [f"{number:05d}" for number in range(10_582 + 1_449)]
    make_lists(
        tmp_path / "VOCdevkit",
        "\n".join(ids[:1464]),
        "\n".join(ids[10_582:]),
        aug=(),
        listed="\n".join(ids[:10_582]),
    )
    dataset = read_voc_segmentation(tmp_path)
    assert (len(dataset.train), len(dataset.val)) == (10_582, 1_449)
    assert dataset.notes == ()


@pytest.mark.parametrize("place", [".", "VOCdevkit", "VOCdevkit/VOC2012"])
def test_any_of_three_folders_is_a_data_root(tmp_path: Path, place: str) -> None:
    root = make_lists(tmp_path / "VOCdevkit", "a\n", "c\n")
    assert read_voc_segmentation(str(tmp_path / place)).root == root


def test_no_data_root_names_every_place_and_what_is_missing(tmp_path: Path) -> None:
    root = make_lists(tmp_path / "VOCdevkit", "a\n", "c\n")
    (root / "ImageSets/Segmentation/val.txt").unlink()
    with pytest.raises(DataError) as caught:
        read_voc_segmentation(tmp_path)
    text = str(caught.value)
    assert f"{root} (without ImageSets/Segmentation/val.txt)" in text
    assert f"{tmp_path / 'VOC2012'} (no such folder)" in text
    assert f"{tmp_path} (without JPEGImages, SegmentationClass, " in text
    assert "\n" not in text


@pytest.mark.parametrize(
    ("train", "val", "match"),
    [
        ("\n \n", "c\n", r"train\.txt is empty"),
        ("a\n", "", r"val\.txt is empty"),
        ("a\nb\na\n", "c\n", r"a stands twice in the list .*train\.txt"),
        ("a\nb\n", "b\n", r"1 ids are in both .* the first is b"),
        ("\xff", "b\n", "cannot read the list"),
    ],
)
def test_bad_lists(tmp_path: Path, train: str, val: str, match: str) -> None:
    root = make_lists(tmp_path / "VOCdevkit", "a\n", val)
    (root / "ImageSets/Segmentation/train.txt").write_bytes(train.encode("latin-1"))
    with pytest.raises(DataError, match=match):
        read_voc_segmentation(tmp_path)


def test_augmented_list_made_from_the_masks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of SegmentationClassAug without val; of the real folder's 12,031 that leaves 10,582."""
    assert (TRAIN_COUNT["voc12aug"], VAL_COUNT) == (12_031 - 1_449, 1_449)
    monkeypatch.setitem(TRAIN_COUNT, "voc12aug", 9)
    monkeypatch.setattr(voc, "VAL_COUNT", 3)
    ids = [f"{number:05d}" for number in range(12)]
    lists = "\n".join(ids[:4]), "\n".join(ids[9:])
    root = make_lists(tmp_path / "VOCdevkit", *lists, aug=tuple(ids))
    (root / "SegmentationClassAug" / "._00001.png").touch()  # as macOS leaves them
    dataset = read_voc_segmentation(tmp_path)
    assert dataset.notes == ()
    assert [pair.name for pair in dataset.train] == ids[:9]
    (root / "SegmentationClassAug" / "00005.png").unlink()
    assert read_voc_segmentation(tmp_path).notes == ("8 train pictures, voc12aug has 9",)


def test_what_it_is(tmp_path: Path) -> None:
    make_lists(tmp_path / "VOCdevkit", "a\n", "c\n")
    dataset = read_voc_segmentation(tmp_path)
    assert (dataset.name, dataset.classes, dataset.ignore) == ("voc", CLASSES, 255)
    assert (dataset.colour_map()[:21] == palette()[:21]).all()
    assert (dataset.colour_map()[255] == palette()[255]).all()
    lookup = dataset.masks.lookup
    assert lookup[:21].tolist() == list(range(21))
    assert (lookup[21:] == 255).all()


def test_empty_folder_of_augmented_masks(tmp_path: Path) -> None:
    make_lists(tmp_path / "VOCdevkit", "a\n", "c\n", aug=())
    with pytest.raises(DataError, match="holds no PNG masks"):
        read_voc_segmentation(tmp_path)


def test_unknown_variant(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="voc12aug, voc12"):
        read_voc_segmentation(tmp_path, variant="voc07")


def test_real_data(real_voc: Path) -> None:
    dataset = read_voc_segmentation(real_voc)
    assert dataset.variant == "voc12"
    assert (len(dataset.train), len(dataset.val)) == (100, 60)
    assert dataset.train[0].name == "2007_000480"
