import shutil
from pathlib import Path

import numpy as np
import pytest

from vicregl_bench.data import DetectionData, make_voc, read_detection, read_voc_detection
from vicregl_bench.data.voc_boxes import BOX_CLASSES
from vicregl_bench.errors import ConfigError, DataError

XML = """<annotation><folder>VOC2007</folder><filename>x.jpg</filename>
<size><width>80</width><height>64</height><depth>3</depth></size>
<object><name>person</name><truncated>1</truncated><difficult>0</difficult>
 <part><name>head</name><bndbox><xmin>2</xmin><ymin>2</ymin><xmax>4</xmax><ymax>4</ymax></bndbox></part>
 <bndbox><xmin>1</xmin><ymin>1</ymin><xmax>80</xmax><ymax>64</ymax></bndbox></object>
<object><name>aeroplane</name><difficult>1</difficult>
 <bndbox><xmin>10.9</xmin><ymin>20</ymin><xmax>30</xmax><ymax>40.7</ymax></bndbox></object>
<object><name>tvmonitor</name>
 <bndbox><ymax>9</ymax><ymin>8</ymin><xmax>7</xmax><xmin>6</xmin></bndbox></object>
</annotation>"""


@pytest.fixture
def real(shared: Path) -> Path:
    root = shared / "data" / "voc2007_det"
    if not root.is_dir():
        pytest.skip("no ../shared/data/voc2007_det")
    return root


def test_hand_written_annotation(voc_boxes: DetectionData) -> None:
    picture = voc_boxes.train[0]
    picture.annotation.write_text(XML)
    found = voc_boxes.annotations(picture)
    assert found.boxes.tolist() == [[0, 0, 79, 63], [9, 19, 29, 39], [5, 7, 6, 8]]
    assert [BOX_CLASSES[label] for label in found.labels] == ["person", "aeroplane", "tvmonitor"]
    assert found.labels.tolist() == [14, 0, 19]
    assert found.truncated.tolist() == [True, False, False]
    assert found.difficult.tolist() == found.ignored.tolist() == [False, True, False]
    assert not found.crowd.any()
    assert found.segmentations is None


def test_picture_without_objects(voc_boxes: DetectionData) -> None:
    picture = voc_boxes.train[0]
    picture.annotation.write_text(XML[: XML.index("<object>")] + "</annotation>")
    found = voc_boxes.annotations(picture)
    assert found.boxes.shape == (0, 4)
    assert found.ignored.shape == (0,)


def test_places(voc_boxes: DetectionData, monkeypatch: pytest.MonkeyPatch) -> None:
    devkit = voc_boxes.root
    for place in (devkit, devkit / "VOC2007", devkit.parent):
        dataset = read_voc_detection(place)
        assert dataset.root == devkit
        assert dataset.train == voc_boxes.train
    monkeypatch.chdir(devkit / "VOC2007")
    assert read_voc_detection(".").root == devkit.resolve()


def test_lists_and_notes(voc_boxes: DetectionData) -> None:
    assert (voc_boxes.name, voc_boxes.variant) == ("voc_boxes", "voc07")
    assert [picture.name for picture in voc_boxes.train] == [f"00000{i}" for i in (1, 2, 3, 4)]
    assert [picture.name for picture in voc_boxes.val] == ["500001", "500002", "500003"]
    assert voc_boxes.notes == (
        "voc07 (4 train) in place of voc0712: no VOC2012/ImageSets/Main/trainval.txt beside "
        "VOC2007",
        "4 train pictures, voc07 has 5,011",
        "3 test pictures, voc07 has 4,952",
    )
    assert read_voc_detection(voc_boxes.root, variant="voc07").notes == voc_boxes.notes[1:]


def test_both_years(voc_boxes: DetectionData, tmp_path: Path) -> None:
    other = make_voc(tmp_path / "2012", train=2, val=1, seed=8, size=(80, 64))
    shutil.copytree(other / "VOC2012", voc_boxes.root / "VOC2012")
    dataset = read_detection("voc_boxes", voc_boxes.root)
    assert dataset.variant == "voc0712"
    assert [picture.name for picture in dataset.train[4:]] == [
        "2012_000001",
        "2012_000002",
        "2012_500001",
    ]
    assert dataset.val == voc_boxes.val
    assert dataset.notes[0] == "7 train pictures, voc0712 has 16,551"
    assert len(dataset.annotations(dataset.train[-1]).labels) > 0
    assert read_detection("voc_boxes", voc_boxes.root, "voc07").train == voc_boxes.train


def test_lists_need_no_annotation(voc_boxes: DetectionData) -> None:
    shutil.rmtree(voc_boxes.root / "VOC2007" / "Annotations")
    (voc_boxes.root / "VOC2007" / "Annotations").mkdir()
    assert read_voc_detection(voc_boxes.root).train == voc_boxes.train


def test_refused(voc_boxes: DetectionData, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="unknown VOC variant 'voc12'"):
        read_voc_detection(voc_boxes.root, variant="voc12")
    with pytest.raises(DataError, match="no VOC2007 detection data: looked for JPEGImages"):
        read_voc_detection(tmp_path / "nowhere")
    with pytest.raises(ConfigError, match="no data set 'pascal': use voc_boxes, coco"):
        read_detection("pascal", voc_boxes.root)
    path = voc_boxes.root / "VOC2007" / "ImageSets" / "Main" / "test.txt"
    path.write_text("000001\n000001\n")
    with pytest.raises(DataError, match="000001 stands twice"):
        read_voc_detection(voc_boxes.root)


def test_real_data(real: Path) -> None:
    dataset = read_voc_detection(real)
    assert (dataset.variant, len(dataset.train), len(dataset.val)) == ("voc07", 140, 70)
    found = [dataset.annotations(picture) for picture in (*dataset.train, *dataset.val)]
    assert sum(len(item.labels) for item in found) == 670
    assert sum(int(item.difficult.sum()) for item in found) == 124


def test_same_as_mmdet(real: Path) -> None:
    from mmdet.datasets import VOCDataset

    dataset = read_voc_detection(real)
    assert dataset.classes == VOCDataset.METAINFO["classes"]
    theirs = VOCDataset(
        data_root=str(dataset.root),
        ann_file="VOC2007/ImageSets/Main/trainval.txt",
        data_prefix={"sub_data_root": "VOC2007/"},
        test_mode=True,
        pipeline=[],
    )
    assert len(theirs) == len(dataset.train)
    for picture, index in zip(dataset.train, range(len(theirs)), strict=True):
        info = theirs.get_data_info(index)
        ours = dataset.annotations(picture)
        assert info["img_id"] == picture.id
        assert Path(info["img_path"]).samefile(picture.image)
        assert (info["width"], info["height"]) == (ours.width, ours.height)
        boxes = [item["bbox"] for item in info["instances"]]
        np.testing.assert_array_equal(ours.boxes, np.array(boxes).reshape(-1, 4))
        assert ours.labels.tolist() == [item["bbox_label"] for item in info["instances"]]
        assert ours.ignored.tolist() == [bool(item["ignore_flag"]) for item in info["instances"]]
