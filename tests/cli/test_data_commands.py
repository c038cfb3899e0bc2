import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vicregl_bench.cli.main import _guarded

Captured = pytest.CaptureFixture[str]


def make(capsys: Captured, layout: str, out: Path) -> str:
    words = ["data", "make", layout, "--out", str(out), "--train", "3", "--val", "2", "--json"]
    assert _guarded(words) == 0
    made = json.loads(capsys.readouterr().out)
    assert (made["train"], made["val"], made["seed"]) == (3, 2, 0)
    return str(made["data_root"])


@pytest.mark.parametrize(
    ("layout", "classes", "masks"),
    [
        ("voc", 21, "class indices"),
        ("cityscapes", 19, "labelTrainIds"),
        ("ade20k", 150, "0 for other, then 150 classes"),
    ],
)
def test_make_and_check(
    tmp_path: Path, capsys: Captured, layout: str, classes: int, masks: str
) -> None:
    root = make(capsys, layout, tmp_path / "made")
    assert _guarded(["data", "check", layout, "--data-root", root, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["ok"] is True
    assert (report["train"], report["val"], report["dataset"]) == (3, 2, layout)
    assert report["masks"] == masks
    assert len(report["classes"]) == len(report["pictures"]["val"]) == classes
    assert len(report["pixels"]["val"]) == classes + 1
    assert _guarded(["data", "check", layout, "--data-root", root]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert f"masks: {masks}): 3 train, 2 val" in lines[0]
    assert lines[-1] == "sound"
    start = next(i for i, line in enumerate(lines) if line.startswith("class "))
    rows = lines[start : start + classes + 2]
    assert rows[-1].startswith("(ignored)")
    # numbers stand under their headings, also where a class has a long name
    ends = {len(row.rstrip()) for row in rows[:-1]}
    assert ends == {len(rows[0])}


@pytest.mark.parametrize(("layout", "classes"), [("voc_boxes", 20), ("coco", 80)])
def test_make_and_check_detection(
    tmp_path: Path, capsys: Captured, layout: str, classes: int
) -> None:
    root = make(capsys, layout, tmp_path / "made")
    assert _guarded(["data", "check", layout, "--data-root", root, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["ok"] is True
    assert (report["train"], report["val"], report["dataset"]) == (3, 2, layout)
    assert len(report["classes"]) == len(report["objects"]["val"]) == classes
    assert len(report["pictures"]["train"]) == classes
    assert _guarded(["data", "check", layout, "--data-root", root]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith(": 3 train, 2 val")
    assert lines[-1] == "sound"
    start = next(i for i, line in enumerate(lines) if line.startswith("class "))
    assert {len(line) for line in lines[start : start + classes + 1]} == {len(lines[start])}
    counts = f"train: {sum(report['objects']['train'])} objects, {report['ignored']['train']} more"
    assert lines[start + classes + 1].startswith(counts)
    next(Path(root).rglob("*.jpg")).write_bytes(b"")
    assert _guarded(["data", "check", layout, "--data-root", root]) == 1
    assert capsys.readouterr().out.splitlines()[-1] == "1 errors"


def test_check_by_task(tmp_path: Path, capsys: Captured) -> None:
    root = make(capsys, "voc", tmp_path / "made")
    assert _guarded(["data", "check", "voc_linear", "--data-root", root]) == 0
    assert "(voc12, masks: class indices)" in capsys.readouterr().out


def test_check_fails_on_a_coloured_mask(tmp_path: Path, capsys: Captured) -> None:
    root = make(capsys, "ade20k", tmp_path / "made")
    mask = sorted(Path(root).glob("annotations/training/*.png"))[0]
    Image.fromarray(np.zeros((120, 160, 3), dtype=np.uint8)).save(mask)
    assert _guarded(["data", "check", "ade20k", "--data-root", root]) == 1
    out = capsys.readouterr().out
    assert f"error: annotations/training/{mask.name}: the mask is of mode RGB" in out
    assert out.splitlines()[-1] == "1 errors"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["check", "pascal"],
            "no task or data set 'pascal'; data sets: voc, cityscapes, ade20k, voc",
        ),
        (["check", "voc_boxes"], "no VOC2007 detection data"),
        (["check", "coco"], "no COCO 2017 data"),
        (["check", "cityscapes"], "no Cityscapes data"),
        (["check", "ade20k"], "no ADE20k data"),
    ],
)
def test_check_refuses(tmp_path: Path, capsys: Captured, words: list[str], message: str) -> None:
    assert _guarded(["data", *words, "--data-root", str(tmp_path)]) == 2
    assert message in " ".join(capsys.readouterr().err.split())


def test_make_refuses(tmp_path: Path, capsys: Captured) -> None:
    assert _guarded(["data", "make", "lvis", "--out", str(tmp_path / "out")]) == 2
    err = " ".join(capsys.readouterr().err.split())
    assert "no layout 'lvis'; use voc, cityscapes, ade20k, voc_boxes, coco" in err
