import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vicregl_bench.data import SegmentationData, check_segmentation
from vicregl_bench.data.ade20k import ADE20K_CLASSES, COUNTS, read_ade20k
from vicregl_bench.errors import DataError


def make_tree(root: Path, train: int = 1, val: int = 1) -> Path:
    """Empty files in the official tree."""
    root = root / "ADEChallengeData2016"
    for folder, count in (("training", train), ("validation", val)):
        for part in ("images", "annotations"):
            (root / part / folder).mkdir(parents=True)
        for number in range(1, count + 1):
            name = f"ADE_{folder}_{number:08d}"
            (root / "images" / folder / f"{name}.jpg").touch()
            (root / "annotations" / folder / f"{name}.png").touch()
    return root


@pytest.fixture
def real_ade20k(shared: Path, tmp_path: Path) -> SegmentationData:
    """The three real pairs: two for training, one for validation."""
    sample = shared / "data" / "ade20k_sample"
    if not sample.is_dir():
        pytest.skip("no ade20k_sample in ../shared")
    root = tmp_path / "ADEChallengeData2016"
    for number, folder in ((1, "training"), (2, "training"), (3, "validation")):
        for part, end in (("images", "jpg"), ("annotations", "png")):
            (root / part / folder).mkdir(parents=True, exist_ok=True)
            name = f"ADE_val_{number:08d}.{end}"
            shutil.copy(sample / part / name, root / part / folder / name)
    return read_ade20k(tmp_path)


def test_names_and_colours_are_those_of_mmseg(ade20k: SegmentationData) -> None:
    from mmseg.utils import get_classes, get_palette

    assert len(ADE20K_CLASSES) == 150
    assert list(ADE20K_CLASSES) == [name.strip() for name in get_classes("ade20k")]
    assert [list(colour) for colour in ade20k.palette] == get_palette("ade20k")


def test_lists(ade20k: SegmentationData) -> None:
    assert (ade20k.name, ade20k.variant) == ("ade20k", "challenge2016")
    assert [pair.name for pair in ade20k.train] == [f"ADE_train_0000000{i}" for i in (1, 2, 3)]
    pair = ade20k.val[0]
    assert pair.image == ade20k.root / "images/validation/ADE_val_00500001.jpg"
    assert pair.mask == ade20k.root / "annotations/validation/ADE_val_00500001.png"
    assert ade20k.notes == (
        "3 train pictures, ADE20k has 20,210",
        "2 val pictures, ADE20k has 2,000",
    )


def test_the_published_counts_leave_no_note(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert COUNTS == {"train": 20_210, "val": 2_000}
    monkeypatch.setitem(COUNTS, "train", 3)
    monkeypatch.setitem(COUNTS, "val", 2)
    dataset = read_ade20k(make_tree(tmp_path, 3, 2))
    assert (len(dataset.train), len(dataset.val)) == (3, 2)
    assert dataset.notes == ()


@pytest.mark.parametrize("place", [".", "ADEChallengeData2016"])
def test_folder_or_parent_is_a_data_root(tmp_path: Path, place: str) -> None:
    root = make_tree(tmp_path)
    assert read_ade20k(str(tmp_path / place)).root == root


def test_other_is_dropped_and_classes_move_down(ade20k: SegmentationData) -> None:
    values = np.arange(151, dtype=np.uint8)[None]
    Image.fromarray(values).save(ade20k.val[0].mask)
    assert ade20k.read_labels(ade20k.val[0]).tolist() == [[255, *range(150)]]


def test_labels_are_those_of_mmseg(ade20k: SegmentationData, tmp_path: Path) -> None:
    """LoadAnnotations of mmseg with reduce_zero_label gives the same labels for every value."""
    from mmseg.datasets.transforms import LoadAnnotations

    path = tmp_path / "all.png"
    Image.fromarray(np.arange(256, dtype=np.uint8).reshape(16, 16)).save(path)
    results = {"seg_map_path": str(path), "reduce_zero_label": True, "seg_fields": []}
    theirs = LoadAnnotations().transform(results)["gt_seg_map"].ravel()
    assert ade20k.masks.lookup[:151].tolist() == theirs[:151].tolist()
    assert ade20k.masks.lookup[255] == theirs[255] == 255


def test_missing_folders_and_files_are_named(tmp_path: Path) -> None:
    root = make_tree(tmp_path / "a")
    shutil.rmtree(root / "annotations/validation")
    with pytest.raises(DataError) as caught:
        read_ade20k(root.parent)
    text = str(caught.value)
    assert f"{root} (without annotations/validation)" in text
    assert "ADEChallengeData2016.zip" in text
    assert "\n" not in text
    with pytest.raises(DataError, match=r"images/training holds no \.jpg pictures"):
        read_ade20k(make_tree(tmp_path / "b", train=0))


def test_a_picture_in_both_splits_is_refused(tmp_path: Path) -> None:
    root = make_tree(tmp_path)
    (root / "images/validation/ADE_training_00000001.jpg").touch()
    with pytest.raises(DataError, match="both train and val, the first is ADE_training_00000001"):
        read_ade20k(root)


def test_real_pairs(real_ade20k: SegmentationData) -> None:
    report = check_segmentation(real_ade20k)
    assert report.ok
    assert (report.train, report.val) == (2, 1)
    # the values of ADE_val_00000003.png, counted with numpy: 0 is other, 44 is signboard
    pixels = dict(zip(report.classes, report.pixels["val"], strict=False))
    shown = {name: count for name, count in pixels.items() if count}
    assert shown == {
        **{"wall": 2901, "building": 9024, "sky": 27749, "tree": 2048, "road": 30083},
        **{"sidewalk": 22518, "car": 2330, "signboard": 153, "bus": 1681, "streetlight": 202},
        **{"van": 1616, "escalator": 17664},
    }
    assert report.pixels["val"][150] == 2031
    assert sum(report.pixels["val"]) == 400 * 300


def test_labels_of_a_real_pair(real_ade20k: SegmentationData) -> None:
    pair = real_ade20k.train[0]
    values = np.asarray(Image.open(pair.mask)).astype(int)
    labels = real_ade20k.read_labels(pair).astype(int)
    assert (labels[values > 0] == values[values > 0] - 1).all()
    assert (labels == 255).sum() == (values == 0).sum() == 3613
