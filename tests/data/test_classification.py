import hashlib
import importlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.data.test_generate import digests
from vicregl_bench.data import (
    CLASSES,
    ClassificationData,
    Labelled,
    fingerprint,
    make_image_folder,
    make_voc_boxes,
    names_sha256,
    read_classification,
    read_folder,
    read_imagenet,
    read_multi_label,
    read_subset,
    read_voc07_classification,
    stat_key,
)
from vicregl_bench.data import classification as classification_module
from vicregl_bench.data.made_folder import MARKER
from vicregl_bench.errors import ConfigError, DataError


def put(root: Path, *items: str) -> Path:
    """Files that are pictures by name only: reading lists does not open them."""
    for item in items:
        path = root / item
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(item.encode())
    return root


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return put(
        tmp_path / "set",
        *("train/dog/b.JPEG", "train/dog/a.jpg", "train/cat/deep/er/c.png", "train/cat/a.webp"),
        *("train/cat/._a.webp", "train/cat/.thumbs/a.png", "train/.git/a.png", "train/cat/read.me"),
        *("train/SOURCE.txt", "train/loose.jpg", "val/cat/x.tar.jpg", "val/.DS_Store"),
    )


def many(counts: dict[str, int]) -> ClassificationData:
    """A data set of that many pictures a class; there are no files."""
    train = tuple(
        Labelled(f"{name}/{name}_{i}", Path(f"train/{name}/{name}_{i}.JPEG"), label)
        for label, (name, count) in enumerate(counts.items())
        for i in range(count)
    )
    return ClassificationData("folder", "folder", Path(), tuple(counts), train, train[:1], ())


def test_class_folders(folder: Path) -> None:
    data = read_folder(folder)
    assert (data.name, data.variant, data.root) == ("folder", "folder", folder)
    assert data.classes == ("cat", "dog")
    assert [(item.name, item.label) for item in data.train] == [
        ("cat/a", 0),
        ("cat/deep/er/c", 0),
        ("dog/a", 1),
        ("dog/b", 1),
    ]
    assert data.train[1].image == folder / "train/cat/deep/er/c.png"
    assert data.train[1].files == (data.train[1].image,)
    assert data.val == (Labelled("cat/x.tar", folder / "val/cat/x.tar.jpg", 0),)
    assert list(data.splits) == ["train", "val"]
    assert data.notes == ()
    assert read_classification("folder", folder) == data
    assert read_classification("folder", folder, "folder_10pct").variant == "folder_10pct"


def test_labels_are_torchvisions(tmp_path: Path) -> None:
    from torchvision.datasets import ImageFolder

    root = make_image_folder(tmp_path / "out", train=8, val=4, seed=1, size=(64, 64), classes=3)
    data = read_folder(root)
    for split, items in data.splits.items():
        theirs = ImageFolder(str(root / split))
        assert [str(item.image) for item in items] == [path for path, _ in theirs.samples]
    assert [item.label for item in data.train] == ImageFolder(str(root / "train")).targets


@pytest.mark.parametrize(
    ("name", "notes"), [("validation", ()), ("test", ("val is the folder test",))]
)
def test_other_names_of_val(folder: Path, name: str, notes: tuple[str, ...]) -> None:
    (folder / "val").rename(folder / name)
    data = read_folder(folder)
    assert data.val[0].image == folder / name / "cat/x.tar.jpg"
    assert data.notes == notes
    put(folder, "val/dog/y.png")
    assert [item.name for item in read_folder(folder).val] == ["dog/y"]


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda root: (root / "train").rename(root / "training"), "no class folder data: looked"),
        (
            lambda root: (root / "val").rename(root / "valid"),
            "no val pictures: none of the folders",
        ),
        (lambda root: (root / "val/cat").rename(root / "elsewhere"), "holds no class folders"),
        (
            lambda root: (root / "val/cat").rename(root / "elsewhere") and put(root, "val/1.jpg"),
            "val holds 1 pictures but no class folders: pictures are read from val/CLASS/",
        ),
        (lambda root: (root / "train/bird").mkdir(), "train/bird holds no pictures (.bmp, .jpeg"),
        (lambda root: (root / "val/dog").mkdir(), "val/dog holds no pictures"),
        (
            lambda root: put(root, "val/emu/1.jpg", "val/fox/1.jpg"),
            "2 class folders of ROOT/val are not in ROOT/train, the first is emu",
        ),
        (lambda root: put(root, "train/dog/a.png"), "train/dog/a.jpg and a.png differ in their"),
    ],
)
def test_wrong_layouts(folder: Path, change: Callable[[Path], object], text: str) -> None:
    change(folder)
    with pytest.raises(DataError) as caught:
        read_folder(folder)
    assert text in str(caught.value).replace(str(folder), "ROOT")
    assert "\n" not in str(caught.value)


def test_unknown_names(folder: Path) -> None:
    with pytest.raises(ConfigError, match="choose one of folder, folder_1pct, folder_10pct"):
        read_folder(folder, variant="folder_2pct")
    with pytest.raises(ConfigError, match="unknown imagenet variant 'folder'"):
        read_imagenet(folder, variant="folder")
    with pytest.raises(ConfigError, match="no data set 'cifar': use folder, imagenet"):
        read_classification("cifar", folder)
    with pytest.raises(ConfigError, match="no data set 'voc': use voc_labels"):
        read_multi_label("voc", folder)
    with pytest.raises(ConfigError, match="the image labels are of voc07"):
        read_multi_label("voc_labels", folder, "voc12")


def test_imagenet_notes_what_differs(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(DataError, match="the class folder 'cat' of"):
        read_imagenet(folder)
    put(tmp_path / "ILSVRC2012", "train/n01440764/n01440764_18.JPEG", "train/n02102040/n0.JPEG")
    root = put(tmp_path / "ILSVRC2012", "val/n01440764/ILSVRC2012_val_00000293.JPEG")
    data = read_imagenet(tmp_path)
    assert (data.name, data.variant, data.root) == ("imagenet", "imagenet", root)
    assert data.notes == (
        "2 classes, ImageNet has 1,000",
        "2 train pictures, ImageNet has 1,281,167",
        "1 val pictures, ImageNet has 50,000",
    )
    assert read_classification("imagenet", root, "imagenet_1pct").variant == "imagenet_1pct"


def test_a_list_beside_train_is_taken_for_a_share(folder: Path) -> None:
    seeded = read_folder(folder, variant="folder_10pct")
    (folder / "10percent.txt").write_text("dog/a\nc.png\n")
    given = read_folder(folder, variant="folder_10pct")
    assert (given.variant, seeded.variant) == ("folder_10pct", "folder_10pct")
    assert {item.name for item in given.train} == {"dog/a", "cat/deep/er/c"}
    assert given.val == seeded.val
    assert "those of 10percent.txt; sha256" in given.notes[-1]
    assert read_folder(folder, variant="folder_1pct").notes != given.notes  # has no list
    (folder / "1percent.txt").write_text("emu/1\n")
    with pytest.raises(DataError, match=r"line 1 of .*1percent.txt: 'emu/1' is no picture of"):
        read_folder(folder, variant="folder_1pct")
    assert len(read_folder(folder).train) > 2


def test_imagenet_ids_are_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    timm = importlib.import_module("timm.data.imagenet_info")
    ids = sorted(timm.ImageNetInfo().label_names())
    assert len(ids) == classification_module.IMAGENET_CLASSES
    assert names_sha256(ids) == classification_module._IMAGENET_IDS
    monkeypatch.setattr(classification_module, "IMAGENET_CLASSES", 2)
    for other, notes in ((ids[0], 3), (ids[1], 2)):
        root = tmp_path / other
        put(root, f"train/{other}/a.JPEG", f"train/{ids[2]}/a.JPEG", f"val/{ids[2]}/b.JPEG")
        monkeypatch.setattr(classification_module, "_IMAGENET_IDS", names_sha256([ids[1], ids[2]]))
        data = read_imagenet(root)
        assert len(data.notes) == notes
        assert (data.notes[0] == "1,000 classes, but not those of ILSVRC2012") == (notes == 3)


def test_subset_is_the_first_by_hash_within_each_class() -> None:
    data = many({"cat": 100, "dog": 30, "emu": 4})
    subset = read_subset(data, percent=10, seed=3)
    assert [sum(item.label == label for item in subset.train) for label in range(3)] == [10, 3, 1]
    for label, count in enumerate((10, 3, 1)):
        names = [item.name for item in data.train if item.label == label]
        ranked = sorted(names, key=lambda name: hashlib.sha256(f"3:{name}".encode()).hexdigest())
        assert {item.name for item in subset.train if item.label == label} == set(ranked[:count])
    assert list(subset.train) == [item for item in data.train if item in set(subset.train)]
    assert (subset.val, subset.variant) == (data.val, "folder_10pct")
    digest = names_sha256(item.name for item in subset.train)
    assert subset.notes == (
        "14 of 134 train pictures (10 % of each class by sha256 of seed:name, seed 3; sha256 of "
        f"the names {digest})",
    )


def test_subset_is_the_same_everywhere() -> None:
    # computed once; another value means another list in published results
    subset = read_subset(many({"n01440764": 200, "n02102040": 120}), percent=1)
    assert [item.name for item in subset.train] == [
        "n01440764/n01440764_9",
        "n01440764/n01440764_176",
        "n02102040/n02102040_62",
    ]


def test_smaller_subsets_lie_in_larger_ones() -> None:
    data = many({"cat": 1_000, "dog": 300})
    shares = [set(read_subset(data, percent=percent).train) for percent in (0.1, 1, 10, 100)]
    assert [len(share) for share in shares] == [2, 13, 130, 1300]
    assert shares[0] < shares[1] < shares[2] < shares[3]
    assert set(read_subset(data, percent=10, seed=1).train) != shares[2]
    assert read_subset(data, percent=0.5).variant == "folder_0.5pct"


def test_subset_of_a_file(tmp_path: Path) -> None:
    data = many({"cat": 5, "dog": 5, "emu": 1})
    path = tmp_path / "1percent.txt"
    path.write_text("dog_3.JPEG\n\ndog/dog_1\n cat_0 \ncat/cat_4.JPEG\n")
    subset = read_subset(data, names_file=path)
    names = ["cat/cat_0", "cat/cat_4", "dog/dog_1", "dog/dog_3"]
    assert [item.name for item in subset.train] == names
    assert subset.variant == "folder_list"
    digest = hashlib.sha256("".join(f"{name}\n" for name in names).encode()).hexdigest()
    assert subset.notes == (
        f"4 of 11 train pictures (those of 1percent.txt; sha256 of the names {digest})",
        "1 classes without train pictures, the first is emu",
    )


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("cat_0\ncat_9\n", "line 2 of PATH: 'cat_9' is no picture of train; correct the list"),
        ("cat/cat_0\ncat_0.JPEG\n", "line 2 of PATH: 'cat_0.JPEG' stands twice"),
        ("same\n", "line 1 of PATH: 'same' may be cat/same or dog/same"),
        (" \n", "the list PATH is empty"),
        (b"\xff\xfe\x00", "cannot read the list PATH"),
        (None, "cannot read the list PATH"),
    ],
)
def test_unusable_files_of_names(tmp_path: Path, content: str | bytes | None, text: str) -> None:
    data = many({"cat": 5, "dog": 5})
    same = (replace(data.train[0], name="cat/same"), replace(data.train[-1], name="dog/same"))
    path = tmp_path / "names.txt"
    if content is not None:
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(DataError) as caught:
        read_subset(replace(data, train=(*data.train, *same)), names_file=path)
    assert text in str(caught.value).replace(str(path), "PATH")


def test_subset_needs_one_way_to_choose(tmp_path: Path) -> None:
    data = many({"cat": 5})
    for values in ({}, {"percent": 1, "names_file": tmp_path}):
        with pytest.raises(ConfigError, match="a percent or a file of names, and not both"):
            read_subset(data, **values)  # type: ignore[arg-type]
    for percent in (0, -1, 101, float("nan")):
        with pytest.raises(ConfigError, match="is not between 0 and 100"):
            read_subset(data, percent=percent)


def test_fingerprint_and_key(folder: Path) -> None:
    data = read_folder(folder)
    before, key = fingerprint(data.splits), stat_key(data.splits)
    assert before.kind == "content"
    assert fingerprint(read_subset(data, percent=50).splits) != before
    assert fingerprint(data.splits, content_limit=0).kind == "names+sizes"
    (folder / "train/dog").rename(folder / "train/emu")  # the same pictures of another class
    assert fingerprint(read_folder(folder).splits) != before
    (folder / "train/emu").rename(folder / "train/dog")
    assert fingerprint(read_folder(folder).splits) == before
    data.train[0].image.write_bytes(b"longer than before")
    assert fingerprint(data.splits) != before
    assert stat_key(data.splits) != key
    data.train[0].image.unlink()
    with pytest.raises(DataError, match=r"a\.webp is in the list of pictures but missing"):
        fingerprint(data.splits)


# made-up pictures


def test_made_folders(tmp_path: Path) -> None:
    values = {"train": 7, "val": 2, "seed": 5}
    root = make_image_folder(tmp_path / "out", **values, classes=3)
    assert root == tmp_path / "out"
    data = read_folder(root)
    assert data.classes == CLASSES[1:4]
    assert [item.name for item in data.train[:3]] == [
        *("aeroplane/000001", "aeroplane/000004", "aeroplane/000007")
    ]
    assert len(data.val) == 2
    with Image.open(data.train[0].image) as picture:
        assert (picture.mode, picture.size, picture.format) == ("RGB", (160, 120), "PNG")
    before = digests(root)
    assert make_image_folder(root, **values, classes=3) == root
    assert digests(root) == before
    before.pop(MARKER)
    more = digests(make_image_folder(tmp_path / "more", **values | {"train": 8}, classes=3))
    assert before.items() < more.items()
    with pytest.raises(DataError, match="other parameters"):
        make_image_folder(root, **values | {"seed": 6}, classes=3)
    data.train[0].image.unlink()
    with pytest.raises(DataError, match="changed since"):
        make_image_folder(root, **values, classes=3)
    with pytest.raises(ConfigError, match="train must be at least 6, a picture a class, not 5"):
        make_image_folder(tmp_path / "bad", train=5, val=2, seed=0)
    with pytest.raises(ConfigError, match="classes must be from 1 to 20, not 21"):
        make_image_folder(tmp_path / "bad", **values, classes=21)


def test_made_pictures_show_one_object_of_their_class() -> None:
    from vicregl_bench.data.generate import _draw

    for number in range(1, 31):
        scene = _draw(0, number, (96, 80), 6, most=1)
        [item] = scene.instances
        assert item.label == (number - 1) % 6 + 1
        assert set(np.unique(scene.labels).tolist()) == {0, item.label, 255}


# image labels of VOC


@pytest.fixture
def devkit(tmp_path: Path) -> Path:
    return make_voc_boxes(tmp_path / "voc", train=12, val=5, seed=0, size=(80, 64), classes=3)


def write_lists(devkit: Path, split: str, list_name: str) -> dict[str, tuple[int, ...]]:
    """The devkit's class lists as its XML files have it; returns the labels by picture."""
    data = read_voc07_classification(devkit)
    main = devkit / "VOC2007/ImageSets/Main"
    for label, name in enumerate(data.classes):
        lines = [f"{item.name} {item.labels[label]:2d}\n" for item in data.splits[split]]
        (main / f"{name}_{list_name}.txt").write_text("".join(lines))
    return {item.name: item.labels for item in data.splits[split]}


def test_labels_from_objects(devkit: Path) -> None:
    data = read_voc07_classification(devkit)
    assert data.classes == CLASSES[1:]
    assert (data.name, data.variant, data.root) == ("voc_labels", "voc07", devkit)
    assert [len(items) for items in data.splits.values()] == [12, 5]
    assert {value for item in data.train for value in item.labels} == {1, 0, -1}
    for item in (*data.train, *data.val):
        [annotation] = item.sources
        assert item.files == (item.image, annotation)
        text = annotation.read_text()
        for label, name in enumerate(data.classes):
            flags = [part.split("</difficult>")[0][-1] for part in text.split(f"<name>{name}<")[1:]]
            assert item.labels[label] == (1 if "0" in flags else 0 if flags else -1)
    folder = devkit / "VOC2007/ImageSets/Main"
    assert data.notes == (
        "12 train pictures, voc07 has 5,011",
        "5 test pictures, voc07 has 4,952",
        f"train labels from the XML files: no CLASS_trainval.txt in {folder}",
        f"val labels from the XML files: no CLASS_test.txt in {folder}",
    )
    assert read_multi_label("voc_labels", devkit.parent) == data


def test_lists_come_first_and_say_the_same(devkit: Path) -> None:
    labels = write_lists(devkit, "train", "trainval")
    before = fingerprint(read_voc07_classification(devkit).splits)
    data = read_voc07_classification(devkit)
    assert {item.name: item.labels for item in data.train} == labels
    assert len(data.train[0].sources) == 20
    assert len(data.notes) == 3  # val still has none
    path = data.train[0].sources[0]
    assert path.name == "aeroplane_trainval.txt"
    first, rest = path.read_text().split("\n", 1)
    name, value = first.split()
    path.write_text(f"{name} {1 if value == '-1' else -1}\n{rest}")
    changed = read_voc07_classification(devkit)
    assert changed.train[0].labels == (1 if value == "-1" else -1, *labels[name][1:])
    assert changed.train[1:] == data.train[1:]
    assert fingerprint(changed.splits) != before


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda path: path.unlink(), "1 of the 20 class lists of trainval are missing, the first"),
        (lambda path: path.write_text("000001 2\n"), "values other than 1, 0 and -1"),
        (lambda path: path.write_text("000001\n"), "lines of a name and 1, 0 or -1 are needed"),
        (lambda path: path.write_text("000001 yes\n"), "lines of a name and 1, 0 or -1 are needed"),
        (lambda path: path.write_text(path.read_text() + "9 1\n"), "9 stands in this list only"),
        (
            lambda path: path.write_text(path.read_text().split("\n", 1)[1]),
            "000001 stands in the list of all pictures beside bird_trainval.txt only",
        ),
    ],
)
def test_damaged_lists(devkit: Path, change: Callable[[Path], object], text: str) -> None:
    write_lists(devkit, "train", "trainval")
    change(devkit / "VOC2007/ImageSets/Main/bird_trainval.txt")
    with pytest.raises(DataError) as caught:
        read_voc07_classification(devkit)
    assert text in str(caught.value)
    assert "bird_trainval.txt" in str(caught.value)


def test_damaged_objects(devkit: Path) -> None:
    (devkit / "VOC2007/Annotations/000002.xml").write_text("<annotation>")
    with pytest.raises(DataError, match=r"000002\.xml: the annotation is half-written"):
        read_voc07_classification(devkit)


# real pictures


def real(shared: Path, name: str) -> Path:
    root = shared / "data" / name
    if not root.is_dir():
        pytest.skip(f"no ../shared/data/{name}")
    return root


@pytest.mark.parametrize(
    ("name", "train", "val"), [("imagenette224", 800, 400), ("imagenette128", 9_169, 3_725)]
)
def test_real_imagenette(shared: Path, name: str, train: int, val: int) -> None:
    data = read_imagenet(real(shared, name))
    assert (len(data.train), len(data.val), len(data.classes)) == (train, val, 10)
    assert data.notes == (
        "10 classes, ImageNet has 1,000",
        f"{train:,} train pictures, ImageNet has 1,281,167",
        f"{val:,} val pictures, ImageNet has 50,000",
    )
    assert read_folder(data.root).train == data.train
    assert data.classes[0] == "n01440764"
    counts = [sum(item.label == label for item in data.train) for label in range(10)]
    subset = read_classification("imagenet", data.root, "imagenet_10pct")
    assert [sum(item.label == label for item in subset.train) for label in range(10)] == [
        round(count / 10) for count in counts
    ]


def test_real_voc_labels(shared: Path) -> None:
    data = read_voc07_classification(real(shared, "voc2007_det"))
    assert [len(items) for items in data.splits.values()] == [140, 70]
    labels = np.array([item.labels for item in (*data.train, *data.val)])
    assert labels.shape == (210, 20)
    assert (labels == 1).any(axis=0).all()
    assert ((labels == 1).sum(), (labels == 0).sum()) == (318, 30)  # counted in the XML by hand
