from pathlib import Path

import numpy as np
import pytest

from vicregl_bench.data.voc import (
    CLASSES,
    Pair,
    VocSegmentation,
    palette,
    read_voc_segmentation,
    split_holdout,
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


def test_empty_folder_of_augmented_masks(tmp_path: Path) -> None:
    make_lists(tmp_path / "VOCdevkit", "a\n", "c\n", aug=())
    with pytest.raises(DataError, match="holds no PNG masks"):
        read_voc_segmentation(tmp_path)


def test_unknown_variant(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="voc12aug, voc12"):
        read_voc_segmentation(tmp_path, variant="voc07")  # type: ignore[arg-type]


PAIRS = tuple(Pair(f"2012_{number:06d}", Path("i"), Path("m")) for number in range(20))


def test_holdout_is_the_same_everywhere() -> None:
    kept, held = split_holdout(PAIRS, share=0.2, seed=0)
    # Golden: the order of sha256(f"0:{name}"), which depends on nothing but the names.
    assert [pair.name for pair in held] == [
        "2012_000003",
        "2012_000006",
        "2012_000009",
        "2012_000016",
    ]
    assert [pair for pair in PAIRS if pair not in held] == list(kept)
    assert split_holdout(PAIRS[::-1], share=0.2, seed=0)[1] == held[::-1]
    assert split_holdout(PAIRS, share=0.2, seed=1)[1] != held


def test_larger_holdout_contains_the_smaller() -> None:
    small, large = (set(split_holdout(PAIRS, share=share)[1]) for share in (0.1, 0.5))
    assert len(small) == 2
    assert len(large) == 10
    assert small < large


def test_holdout_leaves_one_on_either_side() -> None:
    assert [len(part) for part in split_holdout(PAIRS[:2], share=0.01)] == [1, 1]
    assert [len(part) for part in split_holdout(PAIRS[:2], share=0.99)] == [1, 1]


def test_holdout_refuses() -> None:
    with pytest.raises(DataError, match="1 pictures"):
        split_holdout(PAIRS[:1])
    with pytest.raises(ConfigError, match="share"):
        split_holdout(PAIRS, share=1.0)


def test_splits_in_order() -> None:
    dataset = VocSegmentation(Path("r"), "voc12", PAIRS[:2], PAIRS[2:3], ())
    assert list(dataset.splits.items()) == [("train", PAIRS[:2]), ("val", PAIRS[2:3])]


def test_real_data(real_voc: Path) -> None:
    dataset = read_voc_segmentation(real_voc)
    assert dataset.variant == "voc12"
    assert (len(dataset.train), len(dataset.val)) == (100, 60)
    assert dataset.train[0].name == "2007_000480"
