"""The small classification sets that seeds of this suite transfer to: their facts and readers.

CUB-200-2011, Mini-ImageNet and SUN397 are those of "Scaling" VICReg (section 4.1), Food-101,
NCT-CRC-HE-100K and ImageNet-100 those of global-local self-distillation (section 4.5.2).
`TRANSFER_SETS` is the table of what is published about them, and every reader notes what differs
from it. Three are in class folders and read here, three by official lists, in `transfer_lists`.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from pathlib import Path

from vicregl_bench.data.classification import (
    ClassificationData,
    class_folders,
    names_sha256,
    read_class_folders,
    read_folder,
)
from vicregl_bench.data.detection import count_note
from vicregl_bench.data.segmentation import find_root
from vicregl_bench.data.split_lists import Published
from vicregl_bench.data.transfer_lists import (
    read_cub200_lists,
    read_food101_lists,
    read_sun397_lists,
)
from vicregl_bench.errors import ConfigError, DataError

SYNSETS_FILE = "imagenet100.txt"
# Sha256 of the 100 WordNet ids of CMC's imagenet100.txt, sorted, each followed by a newline.
_CMC_SYNSETS = "5ee5db69d488bb799a286d8e181801c3d02798776c1ce9203e5450f64e086e07"


@dataclass(frozen=True)
class TransferSet:
    """What is published about a data set.

    Attributes:
        published: name, classes and pictures of each split; no counts where there is no official
            split within the classes.
        total: pictures of all splits.
        source: of these numbers.
    """

    published: Published
    total: int
    source: str

    def noted(self, data: ClassificationData) -> ClassificationData:
        """A data set under its name, with notes on numbers that differ from the published ones."""
        about, notes = self.published, list(data.notes)
        if len(data.classes) != about.classes:
            notes.append(f"{len(data.classes):,} classes, {about.title} has {about.classes:,}")
        for split in about.counts:
            notes += count_note(about.title, split, len(data.splits[split]), about.counts)
        count = sum(map(len, data.splits.values()))
        if not about.counts and count != self.total:
            notes.append(f"{count:,} pictures in all, {about.title} has {self.total:,}")
        return replace(data, name=about.name, variant=about.name, notes=tuple(notes))


def _split(name: str, title: str, classes: int, train: int, val: int, source: str) -> TransferSet:
    published = Published(name, title, classes, {"train": train, "val": val})
    return TransferSet(published, train + val, source)


_SETS = (
    _split("cub200", "CUB-200-2011", 200, 5_994, 5_794, "Wah et al. 2011, train_test_split.txt"),
    TransferSet(
        Published("mini_imagenet", "Mini-ImageNet", 100, {}),
        60_000,
        "Vinyals et al. 2016: 600 pictures a class",
    ),
    _split(
        "sun397",
        "SUN397",
        397,
        19_850,
        19_850,
        "Xiao et al. 2010: partition 1 of 10, 50 and 50 a class",
    ),
    _split("food101", "Food-101", 101, 75_750, 25_250, "Bossard et al. 2014: 750 and 250 a class"),
    _split(
        "nct_crc_he",
        "NCT-CRC-HE-100K",
        9,
        100_000,
        7_180,
        "Kather et al. 2018, Zenodo 1214456; val is CRC-VAL-HE-7K",
    ),
    _split(
        "imagenet100",
        "ImageNet-100",
        100,
        126_689,
        5_000,
        "ILSVRC2012's pictures of CMC's classes (Tian et al. 2020, imagenet100.txt)",
    ),
)
TRANSFER_SETS = {one.published.name: one for one in _SETS}


def read_cub200(data_root: str | Path, *, variant: str = "cub200") -> ClassificationData:
    """Read CUB-200-2011 by its official lists; val is its test split.

    Raises:
        DataError: as `read_cub200_lists`.
        ConfigError: an unknown variant.
    """
    return read_cub200_lists(data_root, _published("cub200", variant))


def read_food101(data_root: str | Path, *, variant: str = "food101") -> ClassificationData:
    """Read Food-101 by its official lists; val is its test split.

    Raises:
        DataError: as `read_food101_lists`.
        ConfigError: an unknown variant.
    """
    return read_food101_lists(data_root, _published("food101", variant))


def read_sun397(data_root: str | Path, *, variant: str = "sun397") -> ClassificationData:
    """Read SUN397 by the first of its ten partitions; val is that partition's test list.

    The seed ("Scaling" VICReg, section 4.1) counts all 108,754 pictures and names no split; the
    first partition is what transfer studies take (Kornblith et al. 2019, appendix).

    Raises:
        DataError: as `read_sun397_lists`.
        ConfigError: an unknown variant.
    """
    return read_sun397_lists(data_root, _published("sun397", variant))


def read_nct_crc_he(data_root: str | Path, *, variant: str = "nct_crc_he") -> ClassificationData:
    """Read NCT-CRC-HE-100K, tested on the pictures of other patients, CRC-VAL-HE-7K.

    Layout: `NCT-CRC-HE-100K/CLASS/*.tif` and `CRC-VAL-HE-7K/CLASS/*.tif` below `data_root`, as the
    archives are unpacked. The stain-normalised pictures are meant, not the NONORM ones.

    Raises:
        DataError: a folder is missing, or as `read_folder`.
        ConfigError: an unknown variant.
    """
    _published("nct_crc_he", variant)
    root = find_root(
        data_root,
        ("NCT-CRC-HE", "nct_crc_he"),
        ("NCT-CRC-HE-100K", "CRC-VAL-HE-7K"),
        "NCT-CRC-HE",
        "unpack NCT-CRC-HE-100K.zip and CRC-VAL-HE-7K.zip side by side",
    )
    data = read_class_folders(
        "nct_crc_he", root, train=root / "NCT-CRC-HE-100K", val=root / "CRC-VAL-HE-7K"
    )
    return TRANSFER_SETS["nct_crc_he"].noted(data)


def read_mini_imagenet(
    data_root: str | Path, *, variant: str = "mini_imagenet"
) -> ClassificationData:
    """Read Mini-ImageNet from class folders, split within its 100 classes.

    There is no official split of that kind: the published lists (Ravi and Larochelle 2017) part the
    classes, for few-shot learning, and the seed ("Scaling" VICReg, section 4.1) does not say how it
    split the 600 pictures of a class. Whatever `train` and `val` hold is taken; only their sum is
    held against the published 60,000.

    Raises:
        DataError: as `read_folder`.
        ConfigError: an unknown variant.
    """
    _published("mini_imagenet", variant)
    root = find_root(
        data_root,
        ("mini-imagenet", "mini_imagenet", "miniImageNet"),
        ("train",),
        "Mini-ImageNet",
        "give the folder that holds train/CLASS/*.jpg and val/CLASS/*.jpg as data root",
    )
    return TRANSFER_SETS["mini_imagenet"].noted(read_folder(root))


def read_imagenet100(data_root: str | Path, *, variant: str = "imagenet100") -> ClassificationData:
    """Read the 100 classes of ImageNet-100 from class folders named by WordNet ids.

    `data_root` holds `train` and `val`, of the 100 classes alone or of all of ImageNet. In the
    latter case a file `imagenet100.txt` beside them lists the 100 ids, one a line; what stands
    behind an id is left out. Global-local self-distillation does not say which classes it took;
    the published list is CMC's, and other classes than those are noted.

    Raises:
        DataError: more than 100 classes and no list, a list that cannot be read or that names a
            class twice or one that is not there, or as `read_folder`.
        ConfigError: an unknown variant.
    """
    wanted = _published("imagenet100", variant).classes
    root = find_root(
        data_root,
        ("imagenet100", "ImageNet100", "imagenet-100", "ImageNet-100", "imagenet", "ILSVRC2012"),
        ("train", "val"),
        "ImageNet-100",
        "give the folder that holds train/CLASS/*.JPEG and val/CLASS/*.JPEG as data root",
    )
    path = root / SYNSETS_FILE
    only = _synsets(path) if path.is_file() else None
    there = len(class_folders(root / "train"))
    if only is None and there > wanted:
        raise DataError(
            f"{root / 'train'} has {there:,} class folders: write the 100 WordNet ids that are "
            f"meant, one a line, into {path} (CMC's imagenet100.txt is the published list)"
        )
    data = read_class_folders(
        "imagenet100", root, train=root / "train", val=root / "val", only=only
    )
    if len(data.classes) == wanted and names_sha256(data.classes) != _CMC_SYNSETS:
        other = "100 classes, but not those of CMC's imagenet100.txt"
        data = replace(data, notes=(*data.notes, other))
    return TRANSFER_SETS["imagenet100"].noted(data)


TRANSFER_READERS: dict[str, Callable[..., ClassificationData]] = {
    "cub200": read_cub200,
    "mini_imagenet": read_mini_imagenet,
    "sun397": read_sun397,
    "food101": read_food101,
    "nct_crc_he": read_nct_crc_he,
    "imagenet100": read_imagenet100,
}


def _published(name: str, variant: str) -> Published:
    """What is known of a data set, whose variant has to be its name."""
    if variant != name:
        raise ConfigError(f"unknown {name} variant {variant!r}: there is {name} alone")
    return TRANSFER_SETS[name].published


def _synsets(path: Path) -> Collection[str]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read the list {path}: {error}") from error
    names = [line.split()[0] for line in lines if line.strip()]
    if not names:
        raise DataError(f"the list {path} is empty: one WordNet id a line is needed")
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DataError(f"{path}: {twice[0]} stands twice; remove one line")
    return names
