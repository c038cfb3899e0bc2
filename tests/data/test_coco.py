import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vicregl_bench.data import DetectionData, list_sha256, read_coco_detection
from vicregl_bench.data.coco import CATEGORIES, COCO_CLASSES
from vicregl_bench.errors import ConfigError, DataError

# of the 7 pictures that are 10 % of the real train split, under seed 0
GOLDEN = "c56853e676ba77c202a2f4ea629f5a8b9832be71ad63fd10affa6430aff60a29"


@pytest.fixture
def real(shared: Path) -> Path:
    root = shared / "data" / "coco_mini"
    if not root.is_dir():
        pytest.skip("no ../shared/data/coco_mini")
    return root


def edit(dataset: DetectionData, split: str = "train") -> tuple[Path, dict[str, Any]]:
    path = dataset.splits[split][0].annotation
    return path, json.loads(path.read_text())


def test_classes() -> None:
    assert len(COCO_CLASSES) == 80
    assert COCO_CLASSES[0] == "person"
    assert COCO_CLASSES[-1] == "toothbrush"
    assert list(CATEGORIES) == sorted(CATEGORIES)
    assert max(CATEGORIES) == 90


def test_hand_written_annotations(coco: DetectionData) -> None:
    path, content = edit(coco)
    picture = coco.train[1]
    other = {"image_id": picture.id, "area": 50, "iscrowd": 0}
    ring = [10.5, 20, 15.5, 20, 15.5, 30]
    code = {"size": [64, 80], "counts": [10, 5, 64 * 80 - 15]}
    content["annotations"] = [
        {**other, "id": 1, "category_id": 90, "bbox": [10.5, 20, 5, 10], "segmentation": [ring]},
        {**other, "id": 2, "category_id": 1, "bbox": [0, 0, 80, 64], "segmentation": code}
        | {"iscrowd": 1},
        {**other, "id": 3, "category_id": 3, "bbox": [1, 1, 0.5, 9], "segmentation": [ring]},
        {**other, "id": 4, "category_id": 3, "bbox": [1, 1, 9, 9], "area": 0},
        {**other, "id": 5, "category_id": 3, "bbox": [1, 1, 9, 9], "ignore": 1},
        {**other, "id": 6, "category_id": 13, "bbox": [1, 2, 3, 4]},
    ]
    path.write_text(json.dumps(content))
    dataset = read_coco_detection(coco.root)
    found = dataset.annotations(picture)
    assert found.boxes.tolist() == [[10.5, 20, 15.5, 30], [0, 0, 80, 64], [1, 2, 4, 6]]
    assert [dataset.classes[label] for label in found.labels] == [
        "toothbrush",
        "person",
        "stop sign",
    ]
    assert found.crowd.tolist() == found.ignored.tolist() == [False, True, False]
    assert not found.difficult.any()
    assert found.segmentations == ([ring], code, [])
    assert found.areas is not None
    assert found.areas.tolist() == [50, 50, 50]  # the file's, whatever the box covers
    empty = dataset.annotations(dataset.train[0])
    assert empty.boxes.shape == (0, 4)
    assert empty.segmentations == ()


def test_lists_and_notes(coco: DetectionData) -> None:
    assert (coco.name, coco.variant) == ("coco", "coco2017")
    assert [picture.id for picture in coco.train] == [1, 2, 3, 4, 5, 6]
    assert coco.train[0].name == "000000000001"
    assert coco.train[0].image == coco.root / "train2017" / "000000000001.jpg"
    assert coco.notes == (
        "6 train pictures, coco2017 has 118,287",
        "3 val pictures, coco2017 has 5,000",
    )
    assert read_coco_detection(coco.root.parent).train == coco.train


def test_share(real: Path) -> None:
    whole = read_coco_detection(real)
    tenth = read_coco_detection(real, fraction=10)
    assert tenth.variant == "coco2017_10pct"
    assert len(tenth.train) == 7
    assert set(tenth.train) < set(whole.train)
    assert tenth.val == whole.val
    assert tenth.train == read_coco_detection(real, variant="coco2017_10pct").train
    assert tenth.train != read_coco_detection(real, fraction=10, seed=1).train
    assert list_sha256(tenth.train) == GOLDEN
    assert tenth.notes[:2] == whole.notes
    assert f"(7 pictures, seed 0, sha256 {GOLDEN})" in tenth.notes[2]
    assert len(tenth.annotations(tenth.train[0]).labels) > 0


def test_lists_need_no_annotations(coco: DetectionData) -> None:
    path, content = edit(coco)
    text = json.dumps(content)
    cut = text.index('"annotations"')
    path.write_text(text[:cut] + '"annotations": [{"x": }')
    dataset = read_coco_detection(coco.root)
    assert dataset.train == coco.train
    with pytest.raises(DataError, match="nothing can be read of 000000000001"):
        dataset.annotations(dataset.train[0])


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda text: text[: len(text) // 2], "is cut off or no JSON"),
        (lambda text: "", "is cut off or no JSON"),
        (lambda text: '{"annotations": []}', 'has no list of "images"'),
        (lambda text: '{"images": []}', 'the list of "images" of .* is empty'),
        (lambda text: '{"images": [1, 2}', 'cannot read the list of "images"'),
        (lambda text: text.replace('"width"', '"breadth"'), "without id, file_name, width"),
        (lambda text: text.replace('"id": 2, "license"', '"id": 1, "license"'), "stands twice"),
    ],
)
def test_lists_refused(coco: DetectionData, change: Any, text: str) -> None:
    path = coco.train[0].annotation
    path.write_text(change(path.read_text()))
    with pytest.raises(DataError, match=text) as caught:
        read_coco_detection(coco.root)
    assert "\n" not in str(caught.value)


def test_refused(coco: DetectionData) -> None:
    with pytest.raises(ConfigError, match="unknown COCO variant 'coco2014': use coco2017,"):
        read_coco_detection(coco.root, variant="coco2014")
    with pytest.raises(ConfigError, match="no share of 3 % of COCO: use 1, 2, 5 or 10"):
        read_coco_detection(coco.root, fraction=3)
    shutil.rmtree(coco.root / "val2017")
    with pytest.raises(DataError, match="without val2017"):
        read_coco_detection(coco.root)


@pytest.mark.parametrize("split", ["train", "val"])
def test_same_as_mmdet(real: Path, split: str) -> None:
    from mmdet.datasets import CocoDataset

    dataset = read_coco_detection(real)
    pictures = dataset.splits[split]
    assert dataset.classes == CocoDataset.METAINFO["classes"]
    theirs = CocoDataset(
        data_root=str(dataset.root),
        ann_file=f"annotations/instances_{split}2017.json",
        data_prefix={"img": f"{split}2017/"},
        test_mode=True,
        pipeline=[],
    )
    assert len(theirs) == len(pictures)
    crowds = 0
    for picture, index in zip(pictures, range(len(theirs)), strict=True):
        info = theirs.get_data_info(index)
        ours = dataset.annotations(picture)
        assert info["img_id"] == picture.id
        assert Path(info["img_path"]).samefile(picture.image)
        assert (info["width"], info["height"]) == (ours.width, ours.height)
        boxes = [item["bbox"] for item in info["instances"]]
        np.testing.assert_array_equal(ours.boxes, np.array(boxes).reshape(-1, 4))
        assert ours.labels.tolist() == [item["bbox_label"] for item in info["instances"]]
        assert ours.ignored.tolist() == [bool(item["ignore_flag"]) for item in info["instances"]]
        assert list(ours.segmentations or ()) == [item["mask"] for item in info["instances"]]
        crowds += int(ours.crowd.sum())
    assert crowds == {"train": 7, "val": 1}[split]
