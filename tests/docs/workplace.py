"""A folder in which documented commands find what their placeholders name, all of it tiny."""

import shutil
from pathlib import Path

import torch
import yaml

from tests.docs.pages import ROOT
from tests.docs.shortened import CLASSIFICATION, SEGMENTATION, TINY, shorten
from vicregl_bench.backbones.source import read_backbone
from vicregl_bench.cli.main import _guarded
from vicregl_bench.data import make_image_folder, make_voc, make_voc_boxes
from vicregl_bench.records import read_records

# commands that want to make what --out names, and might go on with what is there
_MAKES = ("data", "convert", "pretrain")
# what commands read and none writes below; `clear` takes the links away
_READ_ONLY = ("DATA", "LABELLED", "VOCdevkit", "DIR", "FOLDER", "made", "demo/data")


def furnish(folder: Path) -> None:
    """Make up the pictures, checkpoints and records that the pages speak of.

    The working directory has to be `folder`: records are made there by runs of their own.
    """
    for make, year in ((make_voc, "VOC2012"), (make_voc_boxes, "VOC2007")):
        devkit = make(folder / "parts" / year, train=12, val=6, seed=0, size=(80, 64))
        shutil.copytree(devkit / year, folder / "VOCdevkit" / year)
    classes = make_image_folder(folder / "LABELLED", train=60, val=24, seed=0, size=(72, 64))
    data = folder / "DATA"
    shutil.copytree(classes, data)
    shutil.copytree(folder / "VOCdevkit", data / "VOCdevkit")
    pictures = sorted((classes / "val").glob("*/*"))
    for name in ("DIR", "FOLDER"):
        (folder / name).mkdir()
        for picture in pictures:
            shutil.copy(picture, folder / name / f"{picture.parent.name}_{picture.name}")
    shutil.copy(pictures[0], folder / "picture.jpg")
    shutil.copytree(classes, folder / "made")
    state = dict(read_backbone(TINY).state_dict)
    for name in ("FILE", "resnet50.pth"):
        torch.save(state, folder / name)
    _records(folder)
    for place in ("demo/runs", "runs/ci"):
        shutil.copytree(folder / "runs", folder / place)
    shutil.copytree(folder / "VOCdevkit", folder / "demo" / "data" / "VOCdevkit")
    _pretrain(folder)
    _batch(folder)


def _pretrain(folder: Path) -> None:
    words = ["pretrain", "--recipe", "tiny", "--data", "DIR", "--out", "runs/tiny"]
    assert _guarded(shorten(words)) == 0
    shutil.rmtree(folder / "runs" / "tiny" / "work")
    study = folder / "OUT" / "pretrain" / "20"
    study.mkdir(parents=True)
    shutil.copy(folder / "runs" / "tiny" / "backbone.pth", study / "backbone.pth")


def _records(folder: Path) -> None:
    """Two records of one task, as `runs/RECORD.json` and `runs/OTHER.json`."""
    (folder / "runs").mkdir()
    for ckpt, name in (("resnet50.pth", "RECORD.json"), (TINY, "OTHER.json")):
        words = ["run", "--ckpt", ckpt, "--task", "voc_linear", "--data-root", "VOCdevkit"]
        # another number of iterations than in the commands, so that none of them is there already
        assert _guarded(shorten([*words, "--out", name, "--set", "schedule.iters=1"])) == 0
        made = folder / name
        for path in made.iterdir():
            if path.is_file():
                target = name if path.suffix == ".json" else path.name
                shutil.copy(path, folder / "runs" / target)
        shutil.rmtree(made)
    assert len(read_records(folder / "runs", print)) == 2


def _batch(folder: Path) -> None:
    """A suite with its baseline, a zoo and its data roots."""
    suite = {
        "checkpoint": {"ckpt": "FILE"},
        "data": {"slice": {"root": "DATA"}},
        "tasks": [{"task": "folder_knn", "data": "slice", "profile": "ci", "set": CLASSIFICATION}],
    }
    _dump(folder / "suite.yaml", suite)
    suite |= {"checkpoint": {"ckpt": "../FILE"}, "data": {"slice": {"root": "../DATA"}}}
    _dump(folder / "ci" / "suite.yaml", suite)
    words = ["--suite", "suite.yaml", "--baseline", "baseline.json", "--out", "parts/regress"]
    assert _guarded(["regress", *words, "--update"]) == 0
    shutil.copy(folder / "baseline.json", folder / "ci" / "baseline.json")
    checkpoint = {"name": "VICRegL 0.9", "ckpt": "FILE", "row": "VICRegL α=0.9", "alpha": 0.9}
    tasks = ("voc_linear", "voc_linear_ft")
    settings = dict.fromkeys(tasks, SEGMENTATION)
    # the examples' own checkpoints and data are the reader's: these stand in for them
    shutil.copytree(ROOT / "examples", folder / "examples")
    for place, up in ((folder, ""), (folder / "examples", "../")):
        _dump(place / "zoo.yaml", {"checkpoints": [checkpoint | {"ckpt": f"{up}FILE"}]})
        roots = dict.fromkeys(("voc", "voc_boxes"), f"{up}VOCdevkit")
        _dump(place / "data.yaml", {"roots": roots, "settings": settings})


def _dump(path: Path, content: object) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(yaml.safe_dump(content, allow_unicode=True))


def borrow(furnished: Path, folder: Path) -> None:
    """A copy of a furnished folder: pictures are links, records and files a command's own."""
    left_out = {furnished / name for name in (*_READ_ONLY, "parts")}

    def ignore(place: str, names: list[str]) -> list[str]:
        return [name for name in names if Path(place) / name in left_out]

    shutil.copytree(furnished, folder, ignore=ignore)
    for name in _READ_ONLY:
        (folder / name).symlink_to(furnished / name, target_is_directory=True)


def clear(words: list[str], folder: Path) -> None:
    """Take away what a command is to make."""
    if words[0] in _MAKES and "--out" in words:
        out = folder / words[words.index("--out") + 1]
        if out.is_dir() and not out.is_symlink():
            shutil.rmtree(out)
        out.unlink(missing_ok=True)
