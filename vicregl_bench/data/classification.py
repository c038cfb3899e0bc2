"""What a classification data set is, and the readers of its layouts.

`read_folder` reads torchvision's ImageFolder layout (a folder a class under `train` and `val`),
`read_imagenet` the same with ImageNet's classes, `read_subset` cuts a training list down to the
few labels of semi-supervised evaluation, `read_voc07_classification` reads the image labels of
VOC2007. Reading looks at lists only, pictures are not opened.
"""

import hashlib
import os
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import NoReturn

from vicregl_bench.data.detection import DetectionData, Picture, count_note
from vicregl_bench.data.segmentation import find_root
from vicregl_bench.data.voc_boxes import read_voc_detection
from vicregl_bench.errors import ConfigError, DataError

# File endings taken for pictures, in small letters: torchvision's IMG_EXTENSIONS.
SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp"})
# Pictures of ILSVRC2012's classification task.
IMAGENET_COUNTS = {"train": 1_281_167, "val": 50_000}
IMAGENET_CLASSES = 1_000
PERCENTS = (1, 10)  # shares of semi-supervised evaluation, as in SimCLR and VICReg

_VAL_FOLDERS = ("val", "validation", "test")
_IMAGENET_FOLDERS = ("imagenet", "ILSVRC2012", "ILSVRC/Data/CLS-LOC", "Data/CLS-LOC")
_WORDNET_ID = re.compile(r"n\d{8}")
# Sha256 of the 1,000 ids in sorted order, each followed by a newline (timm's imagenet_synsets.txt).
_IMAGENET_IDS = "70002b0ff5de60a3a17a82dbfcff291931f96225ddf941ad2e182fc39e183d15"
_VOC_LISTS = {"train": "trainval", "val": "test"}


@dataclass(frozen=True)
class Labelled:
    """One picture of one class."""

    name: str  # path below the split's folder without its ending, as in "n01440764/n01440764_18"
    image: Path
    label: int  # index of its class

    @property
    def files(self) -> tuple[Path]:
        """The picture; its label is in its name."""
        return (self.image,)


@dataclass(frozen=True)
class MultiLabelled:
    """One picture and what is known of every class in it."""

    name: str  # file name without its ending
    image: Path
    labels: tuple[int, ...]  # (C,): 1 present, -1 absent, 0 only difficult objects: left out
    sources: tuple[Path, ...]  # what the labels were read from: the lists of all classes or an XML

    @property
    def files(self) -> tuple[Path, ...]:
        """The picture and what its labels were read from."""
        return self.image, *self.sources


@dataclass(frozen=True)
class ClassificationData:
    """The lists of one data set of a class a picture; the files are not known to be sound."""

    name: str  # in settings, as "folder", "imagenet" or "cub200"
    variant: str
    root: Path  # the folder that holds the splits or their lists
    classes: tuple[str, ...]  # names: class folders sorted, or in the order of the set itself
    train: tuple[Labelled, ...]  # sorted by class, then by name
    val: tuple[Labelled, ...]
    notes: tuple[str, ...]  # every departure from the published set, for the record

    @property
    def splits(self) -> dict[str, tuple[Labelled, ...]]:
        """The pictures by split name: `train`, then `val`."""
        return {"train": self.train, "val": self.val}


@dataclass(frozen=True)
class MultiLabelData:
    """The lists of one data set of several classes a picture."""

    name: str  # "voc_labels"
    variant: str
    root: Path
    classes: tuple[str, ...]
    train: tuple[MultiLabelled, ...]
    val: tuple[MultiLabelled, ...]  # what is tested on: VOC's test split
    notes: tuple[str, ...]

    @property
    def splits(self) -> dict[str, tuple[MultiLabelled, ...]]:
        """The pictures by split name: `train`, then `val`."""
        return {"train": self.train, "val": self.val}


def read_folder(data_root: str | Path, *, variant: str = "folder") -> ClassificationData:
    """Read the lists of any pictures in class folders.

    Layout: `train/CLASS/...` and `val/CLASS/...` below `data_root`, as torchvision's ImageFolder
    reads it; in place of `val` also `validation` or, noted, `test`. Classes are the folders of
    `train`, sorted by name; `val` may lack some. Pictures may lie in folders within a class folder.
    Hidden files and folders and files of other endings than `SUFFIXES` are left out.

    Args:
        data_root: the folder that holds `train`.
        variant: "folder" for all of train, "folder_1pct" or "folder_10pct" for a share of it: the
            pictures that `1percent.txt` or `10percent.txt` in `data_root` names, where there is
            such a file (SimCLR's lists have these names), else that share of every class, chosen by
            `read_subset` with seed 0.

    Raises:
        DataError: there is no train or val folder, no class folder in it, a class folder without
            pictures or unreadable, a class of val that train does not have, or a name twice.
        ConfigError: an unknown variant.
    """
    percent = _percent("folder", variant)
    return _shared(_read("folder", data_root, ()), percent)


def read_imagenet(data_root: str | Path, *, variant: str = "imagenet") -> ClassificationData:
    """Read the lists of ImageNet (ILSVRC2012), in class folders named by WordNet ids.

    `data_root` is the folder that holds `train` and `val`, its parent where it is called
    `imagenet` or `ILSVRC2012`, or that of Kaggle's tree, `ILSVRC/Data/CLS-LOC`. The validation
    pictures have to be sorted into class folders. Other numbers of classes or pictures than the
    published ones (1,000; 1,281,167 train, 50,000 val) are noted, and so are 1,000 other classes.

    Args:
        data_root: where it is.
        variant: "imagenet", or "imagenet_1pct" or "imagenet_10pct" as in `read_folder`.

    Raises:
        DataError: as `read_folder`, or a class folder whose name is no WordNet id.
        ConfigError: an unknown variant.
    """
    percent = _percent("imagenet", variant)
    data = _read("imagenet", data_root, _IMAGENET_FOLDERS)
    foreign = [name for name in data.classes if not _WORDNET_ID.fullmatch(name)]
    if foreign:
        raise DataError(
            f"the class folder {foreign[0]!r} of {data.root / 'train'} is no WordNet id such as "
            "n01440764: class folders of other names are the data set `folder`"
        )
    notes = list(data.notes)
    if len(data.classes) != IMAGENET_CLASSES:
        notes.append(f"{len(data.classes):,} classes, ImageNet has {IMAGENET_CLASSES:,}")
    elif names_sha256(data.classes) != _IMAGENET_IDS:
        notes.append("1,000 classes, but not those of ILSVRC2012")
    for split, pictures in data.splits.items():
        notes += count_note("ImageNet", split, len(pictures), IMAGENET_COUNTS)
    return _shared(replace(data, notes=tuple(notes)), percent)


def read_class_folders(
    name: str, root: Path, *, train: Path, val: Path, only: Collection[str] | None = None
) -> ClassificationData:
    """Read the lists of two folders of class folders, as `read_folder` does, under a name.

    Args:
        name: of the data set and its variant.
        root: the folder that holds both.
        train: class folders to learn from.
        val: class folders to test on.
        only: names of the class folders that count, where others do not.

    Raises:
        DataError: as `read_folder`, or a folder of `only` that train does not have.
    """
    classes, val_classes = class_folders(train), class_folders(val)
    if only is not None:
        missing = sorted(set(only) - set(classes))
        if missing:
            raise DataError(
                f"{train} lacks {len(missing)} of the {len(only)} class folders asked for, the "
                f"first is {missing[0]}"
            )
        classes = tuple(folder for folder in classes if folder in only)
        val_classes = tuple(folder for folder in val_classes if folder in only)
    labels = {folder: label for label, folder in enumerate(classes)}
    unknown = [folder for folder in val_classes if folder not in labels]
    if unknown:
        raise DataError(
            f"{len(unknown)} class folders of {val} are not in {train}, the first is {unknown[0]}: "
            "both need folders of the same names"
        )
    return ClassificationData(
        name=name,
        variant=name,
        root=root,
        classes=classes,
        train=tuple(_pictures(train, classes, labels)),
        val=tuple(_pictures(val, val_classes, labels)),
        notes=(),
    )


def read_subset(
    data: ClassificationData,
    *,
    percent: float | None = None,
    names_file: str | Path | None = None,
    seed: int = 0,
) -> ClassificationData:
    """Cut the training list down to a few labelled pictures: semi-supervised evaluation.

    With `percent`: of every class the first round(percent * n / 100) pictures, at least 1, in the
    order of sha256(f"{seed}:{name}"). That is the same on every machine, and under one seed a
    smaller share lies in a larger one. It is a list of ours: the published ones of ImageNet
    (SimCLR's, 12,811 and 128,116 pictures) are given as `names_file`.

    With `names_file`: the pictures named in it, a name a line, with or without its class folder and
    its ending, as in "n01440764_10026.JPEG".

    The list stays in the order of `data`; `val` stays whole. A note holds the list's
    `names_sha256`.

    Raises:
        ConfigError: not exactly one of the two is given, or a percent outside (0, 100].
        DataError: the file cannot be read or is empty, or names a picture that train does not
            have, one that several classes have, or one twice.
    """
    if (percent is None) == (names_file is None):
        raise ConfigError("a subset needs a percent or a file of names, and not both")
    if percent is not None:
        if not 0 < percent <= 100:
            raise ConfigError(f"a subset of {percent:g} % is not between 0 and 100")
        chosen = _ranked_share(data.train, percent, seed)
        variant = f"{data.variant}_{percent:g}pct"
        how = f"{percent:g} % of each class by sha256 of seed:name, seed {seed}"
    else:
        path = Path(names_file or "")
        chosen = _named(data.train, path)
        variant = f"{data.variant}_list"
        how = f"those of {path.name}"
    train = tuple(item for item in data.train if item.name in chosen)
    notes = [
        f"{len(train):,} of {len(data.train):,} train pictures ({how}; sha256 of the names "
        f"{names_sha256(chosen)})"
    ]
    left = {item.label for item in train}
    without = [name for label, name in enumerate(data.classes) if label not in left]
    if without:
        notes.append(f"{len(without):,} classes without train pictures, the first is {without[0]}")
    return replace(data, variant=variant, train=train, notes=(*data.notes, *notes))


def names_sha256(names: Iterable[str]) -> str:
    """Sha256 of a list whatever its order: the sorted names, each followed by a newline."""
    return hashlib.sha256("".join(f"{name}\n" for name in sorted(names)).encode()).hexdigest()


def read_voc07_classification(data_root: str | Path, *, variant: str = "voc07") -> MultiLabelData:
    """Read the image labels of VOC2007: train on trainval, test on test.

    Layout: the VOC2007 devkit, found as `read_voc_detection` finds it. Labels are those of
    `ImageSets/Main/CLASS_trainval.txt` and `CLASS_test.txt`: 1 present, -1 absent, 0 where all
    objects of the class are difficult. Where a split has none of the 20 lists, they follow from the
    objects of the XML files by the same rule, and a note says so. Counts other than the published
    ones (5,011 and 4,952) are noted too.

    Raises:
        DataError: no such set is found, a list or an XML is missing, unreadable or malformed, or
            the list of a class has other pictures than the split.
        ConfigError: another variant than "voc07".
    """
    if variant != "voc07":
        raise ConfigError(f"unknown VOC variant {variant!r}: the image labels are of voc07")
    boxes = read_voc_detection(data_root, variant="voc07")
    splits: dict[str, tuple[MultiLabelled, ...]] = {}
    notes = list(boxes.notes)
    for split, pictures in boxes.splits.items():
        list_name = _VOC_LISTS[split]
        folder = pictures[0].annotation.parents[1] / "ImageSets" / "Main"
        lists = tuple(folder / f"{name}_{list_name}.txt" for name in boxes.classes)
        missing = [path for path in lists if not path.is_file()]
        if not missing:
            splits[split] = _listed_labels(pictures, lists)
        elif len(missing) == len(lists):
            splits[split] = _object_labels(boxes, pictures)
            notes.append(f"{split} labels from the XML files: no CLASS_{list_name}.txt in {folder}")
        else:
            raise DataError(
                f"{len(missing)} of the {len(lists)} class lists of {list_name} are missing, the "
                f"first is {missing[0]}: restore the devkit's lists, or remove all to have the "
                "labels read from the XML files"
            )
    return MultiLabelData(
        name="voc_labels",
        variant="voc07",
        root=boxes.root,
        classes=boxes.classes,
        train=splits["train"],
        val=splits["val"],
        notes=tuple(notes),
    )


def _percent(name: str, variant: str) -> int | None:
    """The share of train that a variant means, None for all of it."""
    shares: dict[str, int | None] = {name: None} | {
        f"{name}_{percent}pct": percent for percent in PERCENTS
    }
    if variant not in shares:
        raise ConfigError(f"unknown {name} variant {variant!r}: choose one of {', '.join(shares)}")
    return shares[variant]


def _shared(data: ClassificationData, percent: int | None) -> ClassificationData:
    """A share of train: that of the list beside it, where there is one, or a seeded one."""
    if percent is None:
        return data
    given = data.root / f"{percent}percent.txt"
    if not given.exists():
        return read_subset(data, percent=percent)
    return replace(read_subset(data, names_file=given), variant=f"{data.variant}_{percent}pct")


def _read(name: str, data_root: str | Path, below: Sequence[str]) -> ClassificationData:
    root = find_root(
        data_root,
        below,
        ("train",),
        "class folder" if name == "folder" else "ImageNet",
        "give the folder that holds train/CLASS/*.jpg and val/CLASS/*.jpg as data root",
    )
    held = next((item for item in _VAL_FOLDERS if (root / item).is_dir()), None)
    if held is None:
        raise DataError(
            f"no val pictures: none of the folders {', '.join(_VAL_FOLDERS)} is in {root}; put "
            "those that are tested on into val/CLASS"
        )
    data = read_class_folders(name, root, train=root / "train", val=root / held)
    return replace(data, notes=(f"val is the folder {held}",)) if held == "test" else data


def class_folders(split: Path) -> tuple[str, ...]:
    """Names of the folders of a split that are not hidden, sorted.

    Raises:
        DataError: there is no such split, or nothing in it.
    """
    try:
        entries = [path for path in split.iterdir() if not path.name.startswith(".")]
    except OSError as error:
        _refuse(error)
    folders = sorted(path.name for path in entries if path.is_dir())
    if not folders:
        loose = sum(path.suffix.lower() in SUFFIXES for path in entries)
        what = f"{loose:,} pictures but no class folders" if loose else "no class folders"
        raise DataError(f"{split} holds {what}: pictures are read from {split.name}/CLASS/")
    return tuple(folders)


def _pictures(split: Path, classes: Sequence[str], labels: dict[str, int]) -> Iterator[Labelled]:
    """The pictures of a split, class by class, each class sorted by name."""
    for folder in classes:
        found: dict[str, Path] = {}
        for name, image in _walk(split, folder):
            if name in found:
                raise DataError(
                    f"{found[name]} and {image.name} differ in their ending only: names without "
                    "endings tell pictures apart, rename one"
                )
            found[name] = image
        if not found:
            raise DataError(
                f"the class folder {split / folder} holds no pictures "
                f"({', '.join(sorted(SUFFIXES))}): fill or remove it"
            )
        yield from (Labelled(name, found[name], labels[folder]) for name in sorted(found))


def _walk(split: Path, folder: str) -> Iterator[tuple[str, Path]]:
    """Name and path of the pictures in a class folder; links are followed as torchvision does."""
    for place, below, files in os.walk(split / folder, onerror=_refuse, followlinks=True):
        below[:] = sorted(name for name in below if not name.startswith("."))
        here = Path(place)
        prefix = here.relative_to(split).as_posix()
        for file in sorted(files):
            stem, dot, ending = file.rpartition(".")
            if not file.startswith(".") and (dot + ending).lower() in SUFFIXES:
                yield f"{prefix}/{stem}", here / file


def _refuse(error: OSError) -> NoReturn:
    raise DataError(f"cannot read the folder {error.filename}: {error.strerror}") from error


def _ranked_share(pictures: Sequence[Labelled], percent: float, seed: int) -> set[str]:
    by_class: dict[int, list[str]] = {}
    for item in pictures:
        by_class.setdefault(item.label, []).append(item.name)
    chosen: set[str] = set()
    for names in by_class.values():
        names.sort(key=lambda name: hashlib.sha256(f"{seed}:{name}".encode()).digest())
        chosen.update(names[: max(1, round(percent * len(names) / 100))])
    return chosen


def _named(pictures: Sequence[Labelled], path: Path) -> set[str]:
    """The names that a file's lines mean."""
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read the list {path}: {error}") from error
    if not any(lines):
        raise DataError(f"the list {path} is empty: one picture name a line is needed")
    by_stem: dict[str, list[str]] = {}
    for item in pictures:
        by_stem.setdefault(item.name.rsplit("/", 1)[1], []).append(item.name)
    names = {item.name for item in pictures}
    chosen: set[str] = set()
    for number, line in enumerate(lines, start=1):
        if not line:
            continue
        given = PurePosixPath(line)
        bare = str(given.with_suffix("")) if given.suffix.lower() in SUFFIXES else line
        found = next(
            ([key] for key in (line, bare) if key in names),
            by_stem.get(line, by_stem.get(bare, [])),
        )
        if len(found) != 1:
            wrong = "is no picture of train" if not found else f"may be {' or '.join(found[:2])}"
            raise DataError(f"line {number} of {path}: {line!r} {wrong}; correct the list")
        if found[0] in chosen:
            raise DataError(f"line {number} of {path}: {line!r} stands twice; remove one line")
        chosen.update(found)
    return chosen


def _listed_labels(
    pictures: Sequence[Picture], lists: tuple[Path, ...]
) -> tuple[MultiLabelled, ...]:
    """The labels of the devkit's lists, one a class."""
    names = {picture.name for picture in pictures}
    columns = [_read_labels(path, names) for path in lists]
    return tuple(
        MultiLabelled(
            picture.name, picture.image, tuple(column[picture.name] for column in columns), lists
        )
        for picture in pictures
    )


def _read_labels(path: Path, names: set[str]) -> dict[str, int]:
    try:
        rows = [line.split() for line in path.read_text(encoding="utf-8").splitlines()]
        labels = {name: int(value) for name, value in filter(None, rows)}
    except (OSError, ValueError) as error:
        raise DataError(
            f"cannot read the list {path}: lines of a name and 1, 0 or -1 are needed ({error})"
        ) from error
    if not set(labels.values()) <= {1, 0, -1}:
        raise DataError(f"the list {path} has values other than 1, 0 and -1: restore it")
    if labels.keys() != names:
        odd = min(labels.keys() ^ names)
        where = "this list" if odd in labels else f"the list of all pictures beside {path.name}"
        raise DataError(f"{path}: {odd} stands in {where} only; restore the devkit's lists")
    return labels


def _object_labels(boxes: DetectionData, pictures: Sequence[Picture]) -> tuple[MultiLabelled, ...]:
    """The labels that follow from the objects."""
    items: list[MultiLabelled] = []
    for picture in pictures:
        objects = boxes.annotations(picture)
        labels = [-1] * len(boxes.classes)
        for label, difficult in zip(objects.labels.tolist(), objects.difficult, strict=True):
            labels[label] = max(labels[label], 0 if difficult else 1)
        items.append(
            MultiLabelled(picture.name, picture.image, tuple(labels), (picture.annotation,))
        )
    return tuple(items)
