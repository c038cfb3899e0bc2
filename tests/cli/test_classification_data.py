import json
from pathlib import Path

import pytest

from vicregl_bench.cli.main import _guarded
from vicregl_bench.data import make_voc_boxes

Captured = pytest.CaptureFixture[str]


@pytest.fixture
def root(tmp_path: Path, capsys: Captured) -> str:
    words = ["data", "make", "folder", "--out", str(tmp_path / "made"), "--train", "8"]
    assert _guarded([*words, "--val", "3", "--seed", "4", "--json"]) == 0
    made = json.loads(capsys.readouterr().out)
    assert made == {"data_root": str(tmp_path / "made"), "train": 8, "val": 3, "seed": 4}
    return str(made["data_root"])


def test_check_prints_pictures_by_class(root: str, capsys: Captured) -> None:
    assert _guarded(["data", "check", "folder", "--data-root", root]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"{root} (folder): 8 train, 3 val"
    assert lines[1].split() == ["class", "train", "pictures", "val", "pictures"]
    rows = [line.split() for line in lines[2:8]]
    assert [row[0] for row in rows] == ["aeroplane", "bicycle", "bird", "boat", "bottle", "bus"]
    assert [int(row[1]) for row in rows] == [2, 2, 1, 1, 1, 1]
    assert sum(int(row[2]) for row in rows) == 3
    assert {len(line) for line in lines[1:8]} == {len(lines[1])}
    assert lines[8:10] == ["train: 1 to 2 pictures a class", "val: 0 to 1 pictures a class"]
    assert lines[-2].startswith("warning: val: no val picture shows")
    assert lines[-1] == "sound"


def test_check_as_json_and_its_exit_code(root: str, capsys: Captured) -> None:
    picture = sorted(Path(root).glob("train/*/*.png"))[0]
    picture.write_bytes(picture.read_bytes()[:900])
    assert _guarded(["data", "check", "folder", "--data-root", root, "--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert (report["ok"], report["dataset"], report["leaked"]) == (False, "folder", 0)
    assert report["problems"][0]["file"] == picture.relative_to(root).as_posix()


def test_image_labels_of_voc(tmp_path: Path, capsys: Captured) -> None:
    make_voc_boxes(tmp_path / "voc", train=12, val=3, seed=0, size=(80, 64), classes=3)
    words = ["data", "check", "voc_labels", "--data-root", str(tmp_path / "voc")]
    assert _guarded(words) == 0
    out = capsys.readouterr().out
    assert "labels left out, of difficult objects alone" in out
    assert "note: 12 train pictures, voc07 has 5,011" in out


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("folder", "no class folder data: looked for train in"),
        ("imagenet", "no ImageNet data: looked for train in"),
        ("voc_labels", "no VOC2007 detection data"),
    ],
)
def test_check_refuses(tmp_path: Path, capsys: Captured, name: str, message: str) -> None:
    assert _guarded(["data", "check", name, "--data-root", str(tmp_path)]) == 2
    assert message in " ".join(capsys.readouterr().err.split())


def test_imagenet_needs_wordnet_ids(root: str, capsys: Captured) -> None:
    assert _guarded(["data", "check", "imagenet", "--data-root", root]) == 2
    assert "is no WordNet id" in " ".join(capsys.readouterr().err.split())
