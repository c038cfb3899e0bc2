"""The transfer sets: official trees, known answers, what differs is noted, bad trees."""

from pathlib import Path
from typing import get_args

import pytest
import torchvision.datasets
from PIL import Image

from tests.data.test_classification import put
from vicregl_bench.cli.main import _guarded
from vicregl_bench.data import ClassificationData, make_image_folder, read_classification
from vicregl_bench.data import transfer as transfer_module
from vicregl_bench.data.transfer import TRANSFER_READERS, TRANSFER_SETS
from vicregl_bench.errors import ConfigError, DataError
from vicregl_bench.tasks.classification.settings import TransferName
from vicregl_bench.tasks.protocol import load_task


def write(root: Path, lists: dict[str, str]) -> Path:
    for name, text in lists.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


CUB = {
    "classes.txt": "1 001.Albatross\n2 002.Gull\n",
    "images.txt": "1 001.Albatross/A_1.jpg\n2 002.Gull/G_7.jpg\n3 002.Gull/G_2.jpg\n"
    "4 001.Albatross/A_3.jpg\n",
    "image_class_labels.txt": "1 1\n2 2\n3 2\n4 1\n",
    "train_test_split.txt": "1 0\n2 1\n3 1\n4 1\n",
}
FOOD = {
    "meta/train.txt": "waffles/9\napple_pie/2\napple_pie/1\n",
    "meta/test.txt": "waffles/3\napple_pie/5\n",
}
SUN = {
    "Partitions/ClassName.txt": "/a/abbey\n/a/apartment_building/outdoor\n/z/zen_garden\n",
    "Partitions/Training_01.txt": "/z/zen_garden/sun_b.jpg\n/a/abbey/sun_a.jpg\n"
    "/a/apartment_building/outdoor/sun_c.jpg\n",
    "Partitions/Testing_01.txt": "/a/abbey/sun_t.jpg\n/z/zen_garden/sun_u.jpg\n",
}
Lists = dict[str, str]


@pytest.fixture
def cub(tmp_path: Path) -> Path:
    (tmp_path / "CUB_200_2011" / "images").mkdir(parents=True)
    return write(tmp_path / "CUB_200_2011", CUB)


@pytest.fixture
def food(tmp_path: Path) -> Path:
    (tmp_path / "food-101" / "images").mkdir(parents=True)
    return write(tmp_path / "food-101", FOOD)


@pytest.fixture
def sun(tmp_path: Path) -> Path:
    (tmp_path / "sun397" / "SUN397").mkdir(parents=True)
    return write(tmp_path / "sun397", SUN)


def rows(data: ClassificationData, split: str) -> list[tuple[str, int, str]]:
    return [
        (item.name, item.label, item.image.relative_to(data.root).as_posix())
        for item in data.splits[split]
    ]


def test_cub200(cub: Path) -> None:
    data = read_classification("cub200", cub)
    assert (data.name, data.variant, data.root) == ("cub200", "cub200", cub)
    assert data.classes == ("001.Albatross", "002.Gull")
    assert rows(data, "train") == [
        ("001.Albatross/A_3", 0, "images/001.Albatross/A_3.jpg"),
        ("002.Gull/G_2", 1, "images/002.Gull/G_2.jpg"),
        ("002.Gull/G_7", 1, "images/002.Gull/G_7.jpg"),
    ]
    assert rows(data, "val") == [("001.Albatross/A_1", 0, "images/001.Albatross/A_1.jpg")]
    assert data.notes == (
        "2 classes, CUB-200-2011 has 200",
        "3 train pictures, CUB-200-2011 has 5,994",
        "1 val pictures, CUB-200-2011 has 5,794",
    )
    assert read_classification("cub200", cub.parent) == data


def test_food101(food: Path) -> None:
    data = read_classification("food101", food.parent)
    assert data.classes == ("apple_pie", "waffles")
    assert rows(data, "train") == [
        ("apple_pie/1", 0, "images/apple_pie/1.jpg"),
        ("apple_pie/2", 0, "images/apple_pie/2.jpg"),
        ("waffles/9", 1, "images/waffles/9.jpg"),
    ]
    assert rows(data, "val")[1] == ("waffles/3", 1, "images/waffles/3.jpg")


def test_labels_of_food101_are_torchvisions(food: Path) -> None:
    write(
        food,
        {
            "meta/train.json": '{"waffles": ["waffles/9"], '
            '"apple_pie": ["apple_pie/2", "apple_pie/1"]}'
        },
    )
    theirs = torchvision.datasets.Food101(str(food.parent), split="train")
    pairs = sorted(zip(map(str, theirs._image_files), theirs._labels, strict=True))
    data = read_classification("food101", food)
    assert sorted((str(item.image), item.label) for item in data.train) == pairs
    assert list(data.classes) == theirs.classes


def test_sun397(sun: Path) -> None:
    data = read_classification("sun397", sun.parent)
    assert data.root == sun
    assert data.classes == ("abbey", "apartment_building/outdoor", "zen_garden")
    assert rows(data, "train") == [
        ("a/abbey/sun_a", 0, "SUN397/a/abbey/sun_a.jpg"),
        ("a/apartment_building/outdoor/sun_c", 1, "SUN397/a/apartment_building/outdoor/sun_c.jpg"),
        ("z/zen_garden/sun_b", 2, "SUN397/z/zen_garden/sun_b.jpg"),
    ]
    assert [item.name for item in data.val] == ["a/abbey/sun_t", "z/zen_garden/sun_u"]


def test_labels_of_sun397_are_torchvisions(sun: Path) -> None:
    data = read_classification("sun397", sun)
    for item in data.train:
        item.image.parent.mkdir(parents=True)
        item.image.touch()
    write(sun, {"SUN397/ClassName.txt": SUN["Partitions/ClassName.txt"]})
    theirs = torchvision.datasets.SUN397(str(sun))
    assert list(data.classes) == theirs.classes
    pairs = sorted(zip(map(str, theirs._image_files), theirs._labels, strict=True))
    assert sorted((str(item.image), item.label) for item in data.train) == pairs


def test_nct_crc_he(tmp_path: Path) -> None:
    put(tmp_path, "NCT-CRC-HE-100K/ADI/ADI-A.tif", "NCT-CRC-HE-100K/TUM/TUM-B.tif")
    data = read_classification("nct_crc_he", put(tmp_path, "CRC-VAL-HE-7K/TUM/TUM-C.tif"))
    assert data.classes == ("ADI", "TUM")
    assert rows(data, "val") == [("TUM/TUM-C", 1, "CRC-VAL-HE-7K/TUM/TUM-C.tif")]
    assert data.notes[-1] == "1 val pictures, NCT-CRC-HE-100K has 7,180"


def test_mini_imagenet_has_no_split_of_its_own(tmp_path: Path) -> None:
    data = read_classification("mini_imagenet", put(tmp_path, "train/n1/a.jpg", "val/n1/b.jpg"))
    assert data.notes == (
        "1 classes, Mini-ImageNet has 100",
        "2 pictures in all, Mini-ImageNet has 60,000",
    )
    with pytest.raises(DataError, match=r"1 class folders of .*val are not in"):
        read_classification("mini_imagenet", put(tmp_path, "val/n2/c.jpg"))


def test_imagenet100_takes_the_listed_classes(tmp_path: Path) -> None:
    ids = [f"n{number:08d}" for number in range(101)]
    put(tmp_path, *(f"{split}/{name}/{name}.JPEG" for split in ("train", "val") for name in ids))
    with pytest.raises(DataError, match="101 class folders: write the 100 WordNet ids"):
        read_classification("imagenet100", tmp_path)
    (tmp_path / "imagenet100.txt").write_text("".join(f"{name} bird\n\n" for name in ids[:0:-1]))
    data = read_classification("imagenet100", tmp_path)
    assert data.classes == tuple(ids[1:])
    assert (data.train[0].name, data.train[0].label) == (f"{ids[1]}/{ids[1]}", 0)
    assert len(data.val) == 100
    assert data.notes == (
        "100 classes, but not those of CMC's imagenet100.txt",
        "100 train pictures, ImageNet-100 has 126,689",
        "100 val pictures, ImageNet-100 has 5,000",
    )
    (tmp_path / "imagenet100.txt").write_text("\n".join(ids[:3]))
    assert "3 classes, ImageNet-100 has 100" in read_classification("imagenet100", tmp_path).notes
    for text, message in (
        ("n00000001\nn00000001\n", "n00000001 stands twice"),
        ("n09999999\n", "lacks 1 of the 1 class folders asked for, the first is n09999999"),
        ("\n", "is empty"),
    ):
        (tmp_path / "imagenet100.txt").write_text(text)
        with pytest.raises(DataError, match=message):
            read_classification("imagenet100", tmp_path)


def test_the_published_classes_of_imagenet100_have_no_note(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = [f"n{number:08d}" for number in range(100)]
    root = put(tmp_path, *(f"{split}/{name}/a.JPEG" for split in ("train", "val") for name in ids))
    monkeypatch.setattr(transfer_module, "_CMC_SYNSETS", transfer_module.names_sha256(ids))
    assert len(read_classification("imagenet100", root).notes) == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images.txt": "1 a/b.jpg\n1 a/c.jpg\n"}, "'1 a/c.jpg' is not a new number"),
        ({"images.txt": "one a/b.jpg\n"}, "'one a/b.jpg' is not a new number"),
        ({"images.txt": ""}, "images.txt is empty"),
        ({"image_class_labels.txt": "1 1\n2 2\n3 2\n"}, "picture 4 is in one of"),
        ({"image_class_labels.txt": "1 1\n2 2\n3 9\n4 1\n"}, "class 9 is not in classes.txt"),
        ({"train_test_split.txt": "1 2\n2 1\n3 1\n4 1\n"}, "'2' is neither 1"),
        ({"train_test_split.txt": "1 1\n2 1\n3 1\n4 1\n"}, "the val list of .* has no pictures"),
        (
            {"images.txt": CUB["images.txt"].replace("G_7", "G_2")},
            "002.Gull/G_2.jpg stands twice in the lists",
        ),
    ],
)
def test_bad_lists_of_cub200(cub: Path, change: Lists, message: str) -> None:
    write(cub, change)
    with pytest.raises(DataError, match=message) as caught:
        read_classification("cub200", cub)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"meta/test.txt": "pizza/1\n"}, "'pizza/1' is of no known class"),
        ({"meta/train.txt": "apple_pie/1\nwaffles\n"}, "'waffles' is of no known class"),
        ({"meta/test.txt": "waffles/9\n"}, "waffles/9.jpg stands twice"),
    ],
)
def test_bad_lists_of_food101(food: Path, change: Lists, message: str) -> None:
    write(food, change)
    with pytest.raises(DataError, match=message):
        read_classification("food101", food)


def test_bad_lists_of_sun397(sun: Path) -> None:
    write(sun, {"Partitions/Testing_01.txt": "/a/attic/sun_x.jpg\n"})
    with pytest.raises(DataError, match=r"'a/attic/sun_x\.jpg' is of no known class"):
        read_classification("sun397", sun)
    (sun / "Partitions/Training_01.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match=r"cannot read the list .*Training_01.txt"):
        read_classification("sun397", sun)


@pytest.mark.parametrize("name", TRANSFER_SETS)
def test_every_set(name: str, tmp_path: Path) -> None:
    """Facts add up, a task of each kind reads it, and what is missing is named."""
    facts = TRANSFER_SETS[name]
    assert facts.published.name == name
    assert facts.published.counts == {} or sum(facts.published.counts.values()) == facts.total
    with pytest.raises(DataError, match=f"^no {facts.published.title[:10]}.* data: looked for"):
        read_classification(name, tmp_path)
    scaling = name in ("cub200", "mini_imagenet", "sun397")
    for kind in ("linear", "knn", *(("probe_search",) if scaling else ())):
        settings = load_task(f"{name}_{kind}").settings
        assert (settings.data.dataset, settings.data.variant) == (name, name)
        base = load_task(f"folder_{kind}").settings.dump()
        base["data"] |= {"dataset": name, "variant": name}
        assert settings.dump() == base
    assert set(get_args(TransferName)) == set(TRANSFER_SETS) == set(TRANSFER_READERS)


def test_another_variant_is_refused(food: Path) -> None:
    with pytest.raises(ConfigError, match="unknown food101 variant 'food101_1pct'"):
        read_classification("food101", food, "food101_1pct")


def _cub_of(made: Path, root: Path) -> None:
    """Made-up pictures in CUB's tree."""
    names = sorted((made / "train").iterdir())
    pictures = sorted(made.glob("*/*/*.png"))
    lists: dict[str, list[str]] = {name: [] for name in CUB}
    lists["classes.txt"] = [f"{k} {folder.name}" for k, folder in enumerate(names, 1)]
    for number, path in enumerate(pictures, 1):
        folder, name = path.parent.name, f"{path.parents[1].name}_{path.stem}.jpg"
        target = root / "images" / folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        Image.open(path).save(target)
        lists["images.txt"].append(f"{number} {folder}/{name}")
        label = [one.name for one in names].index(folder) + 1
        lists["image_class_labels.txt"].append(f"{number} {label}")
        lists["train_test_split.txt"].append(f"{number} {int(path.parents[1].name == 'train')}")
    write(root, {name: "\n".join(lines) + "\n" for name, lines in lists.items()})


def test_data_check(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = make_image_folder(tmp_path / "made", train=8, val=4, seed=0, size=(64, 64))
    root = tmp_path / "CUB_200_2011"
    _cub_of(made, root)
    assert _guarded(["data", "check", "cub200_knn", "--data-root", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert out.splitlines()[0] == f"{root} (cub200): 8 train, 4 val"
    assert "note: 8 train pictures, CUB-200-2011 has 5,994" in out
    next((root / "images").glob("*/val_*.jpg")).unlink()
    assert _guarded(["data", "check", "cub200", "--data-root", str(root)]) == 1
    assert "the picture is missing" in capsys.readouterr().out
