"""Places205 and iNaturalist 2018: what is read, what is noted, what is refused in one line."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.data.label_lists import make_inat18, make_places205
from vicregl_bench.cli.main import _guarded
from vicregl_bench.data import ClassificationData, fingerprint, read_classification
from vicregl_bench.errors import ConfigError, DataError

NAMES = ("aeroplane", "bicycle", "bird", "boat", "bottle", "bus")
MAKERS: dict[str, Callable[[Path], Path]] = {"places205": make_places205, "inat18": make_inat18}
CSV = "trainvalsplit_places205/train_places205.csv"


@pytest.fixture(params=MAKERS)
def made(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, Path]:
    return request.param, MAKERS[request.param](tmp_path / request.param)


def test_lists_are_read(made: tuple[str, Path]) -> None:
    name, root = made
    data = read_classification(name, root)
    assert isinstance(data, ClassificationData)
    assert (data.name, data.variant, data.root, data.classes) == (name, name, root, NAMES)
    assert (len(data.train), len(data.val)) == (18, 12)
    assert all(item.image.is_file() for item in (*data.train, *data.val))
    assert list(data.train) == sorted(data.train, key=lambda item: (item.label, item.name))
    first, last = data.train[0], data.val[-1]
    assert (first.label, last.label) == (0, 5)
    folder = {"places205": "a/aeroplane", "inat18": "Aves/3"}[name]
    assert first.name.startswith(f"{folder}/") and "." not in first.name
    assert {item.label for item in data.val} == set(range(6))
    title, *counts = {
        "places205": ("Places205", "205", "2,448,873", "20,500"),
        "inat18": ("iNaturalist 2018", "8,142", "437,513", "24,426"),
    }[name]
    assert data.notes == (
        f"6 classes, {title} has {counts[0]}",
        f"18 train pictures, {title} has {counts[1]}",
        f"12 val pictures, {title} has {counts[2]}",
    )
    assert read_classification(name, root.parent, name) == data
    assert len(fingerprint(data.splits).value) == 64


def test_check_decodes_them(made: tuple[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    name, root = made
    words = ["data", "check", f"{name}_linear", "--data-root", str(root)]
    assert _guarded(words) == 0
    out = capsys.readouterr().out
    assert "18 train, 12 val" in out and out.splitlines()[-1] == "sound"
    lost = read_classification(name, root).train[0].image
    lost.unlink()
    assert _guarded(words) == 1
    out = capsys.readouterr().out
    assert f"error: {lost.relative_to(root).as_posix()}" in out and "1 errors" in out


def test_other_variants_and_empty_folders(made: tuple[str, Path], tmp_path: Path) -> None:
    name, root = made
    with pytest.raises(ConfigError, match=f"there is {name} alone"):
        read_classification(name, root, f"{name}_1pct")
    (tmp_path / "none").mkdir()
    with pytest.raises(DataError) as caught:
        read_classification(name, tmp_path / "none")
    assert "data: looked for tr" in str(caught.value) and "\n" not in str(caught.value)
    assert ".tar.gz" in str(caught.value)


def _line(text: str) -> Callable[[Path], object]:
    def change(root: Path) -> None:
        path = root / CSV
        path.write_text(path.read_text() + text)

    return change


def _doubled(root: Path) -> None:
    path = root / CSV
    path.write_text(path.read_text() + path.read_text().splitlines()[0])


def _both(root: Path) -> None:
    path = root / CSV
    path.write_text((root / CSV.replace("train_p", "val_p")).read_text())


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (_line("a/abbey/x.jpg\n"), "line 19 of ROOT/trainvalsplit_places205/train_places205.csv"),
        (_line("x.jpg 0\n"), "'x.jpg 0' is not a picture's path and its class"),
        (_line("a/abbey/x.jpg one\n"), "'a/abbey/x.jpg one' is not a picture's path"),
        (_line("a/abbey/x.jpg 8\n"), "no picture of class 6, but of class 8"),
        (_line("b/bus/x.jpg 0\n"), "pictures of bus and of aeroplane in the folder b/bus"),
        (_doubled, "stands twice in the lists of ROOT"),
        (_both, "stands twice in the lists of ROOT"),
        (lambda root: (root / CSV).write_text(""), "the train list of ROOT has no pictures"),
        (lambda root: (root / CSV).write_bytes(b"\xff\xfe"), "cannot read the list ROOT/train"),
        (lambda root: (root / CSV).unlink(), f"ROOT (without {CSV})"),
        (
            lambda root: (root / "data").rename(root / "pictures"),
            "(without data/vision/torralba/deeplearning/images256)",
        ),
    ],
)
def test_wrong_lists_of_places205(
    tmp_path: Path, change: Callable[[Path], object], text: str
) -> None:
    root = make_places205(tmp_path / "places205")
    change(root)
    with pytest.raises(DataError) as caught:
        read_classification("places205", root)
    assert text in str(caught.value).replace(str(root), "ROOT")
    assert "\n" not in str(caught.value)


def test_scenes_within_scenes(tmp_path: Path) -> None:
    """A class is its folders without the letter."""
    root = make_places205(tmp_path)
    _line("/a/apartment_building/outdoor/x.jpg 6\n")(root)
    data = read_classification("places205", root)
    assert data.classes == (*NAMES, "apartment_building/outdoor")
    assert data.train[-1].name == "a/apartment_building/outdoor/x"
    assert data.train[-1].image == root.joinpath(
        "data/vision/torralba/deeplearning/images256/a/apartment_building/outdoor/x.jpg"
    )


def _json(change: Callable[[Any], object], split: str = "train") -> Callable[[Path], object]:
    def apply(root: Path) -> None:
        path = root / f"{split}2018.json"
        content = json.loads(path.read_text())
        change(content)
        path.write_text(json.dumps(content))

    return apply


def _cut(root: Path) -> None:
    path = root / "train2018.json"
    path.write_text(path.read_text()[:300])


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (_cut, "cannot read ROOT/train2018.json: "),
        (_json(lambda c: c.pop("annotations")), "(KeyError: 'annotations')"),
        (_json(lambda c: c["annotations"].pop()), "is no list of pictures, annotations and"),
        (_json(lambda c: c["annotations"][0].update(category_id=99)), "(KeyError: 99)"),
        (
            _json(lambda c: c["annotations"].append({"image_id": 1, "category_id": 53})),
            "image 1 is of two classes",
        ),
        (_json(lambda c: c["images"].append(c["images"][0])), "stands twice in the lists of ROOT"),
        (_json(lambda c: c["categories"][0].update(name="emu")), "have other categories"),
        (_json(lambda c: c["images"].clear(), "val"), "the val list of ROOT has no pictures"),
        (lambda root: (root / "val2018.json").unlink(), "ROOT (without val2018.json)"),
        (lambda root: (root / "train_val2018").rename(root / "x"), "(without train_val2018)"),
        (lambda root: (root / "train2018.json").write_text("[1]"), "TypeError"),
    ],
)
def test_wrong_lists_of_inaturalist(
    tmp_path: Path, change: Callable[[Path], object], text: str
) -> None:
    root = make_inat18(tmp_path / "inat18")
    change(root)
    with pytest.raises(DataError) as caught:
        read_classification("inat18", root)
    assert text in str(caught.value).replace(str(root), "ROOT")
    assert "\n" not in str(caught.value)


def test_species_of_one_name_keep_their_ids(tmp_path: Path) -> None:
    root = make_inat18(tmp_path)
    for split in ("train", "val"):
        _json(lambda c: [one.update(name="emu") for one in c["categories"][:2]], split)(root)
    names = read_classification("inat18", root).classes
    assert names[-2:] == ("emu (43)", "emu (53)") and len(set(names)) == 6
