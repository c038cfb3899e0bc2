"""ADE20k, SceneParsing benchmark: 20,210 train and 2,000 val pictures, 150 classes.

Layout and class order: Zhou et al. 2017 and CSAILVision/sceneparsing (objectInfo150); the short
names and the colours are mmsegmentation's (`ADE20KDataset`). Masks hold 0 for "other" and 1 to 150
for the classes; "other" is neither trained nor scored (mmsegmentation's `reduce_zero_label`).
Reading looks at folders only; `check` looks at the files.
"""

from pathlib import Path

from vicregl_bench.data.segmentation import (
    IGNORE,
    Colour,
    MaskValues,
    Pair,
    SegmentationData,
    count_notes,
    find_root,
    listing,
    require_disjoint,
)
from vicregl_bench.errors import ConfigError, DataError

VARIANTS = ("challenge2016",)
COUNTS = {"train": 20_210, "val": 2_000}

_NAMES = """
wall, building, sky, floor, tree, ceiling, road, bed, windowpane, grass, cabinet, sidewalk, person,
earth, door, table, mountain, plant, curtain, chair, car, water, painting, sofa, shelf, house, sea,
mirror, rug, field, armchair, seat, fence, desk, rock, wardrobe, lamp, bathtub, railing, cushion,
base, box, column, signboard, chest of drawers, counter, sand, sink, skyscraper, fireplace,
refrigerator, grandstand, path, stairs, runway, case, pool table, pillow, screen door, stairway,
river, bridge, bookcase, blind, coffee table, toilet, flower, book, hill, bench, countertop, stove,
palm, kitchen island, computer, swivel chair, boat, bar, arcade machine, hovel, bus, towel, light,
truck, tower, chandelier, awning, streetlight, booth, television receiver, airplane, dirt track,
apparel, pole, land, bannister, escalator, ottoman, bottle, buffet, poster, stage, van, ship,
fountain, conveyer belt, canopy, washer, plaything, swimming pool, stool, barrel, basket,
waterfall, tent, bag, minibike, cradle, oven, ball, food, step, tank, trade name, microwave, pot,
animal, bicycle, lake, dishwasher, screen, blanket, sculpture, hood, sconce, vase, traffic light,
tray, ashcan, fan, pier, crt screen, plate, monitor, bulletin board, shower, radiator, glass,
clock, flag
"""
ADE20K_CLASSES = tuple(" ".join(name.split()) for name in _NAMES.split(","))
_COLOURS = """
787878 b47878 06e6e6 503232 04c803 787850 8c8c8c cc05ff e6e6e6 04fa07 e005ff ebff07 96053d 787846
08ff33 ff0652 8fff8c ccff04 ff3307 cc4603 0066c8 3de6fa ff0633 0b66ff ff0747 ff09e0 0907e6 dcdcdc
ff095c 7009ff 08ffd6 07ffe0 ffb806 0aff47 ff290a 07ffff e0ff08 6608ff ff3d06 ffc207 ff7a08 00ff14
ff0829 ff0599 0633ff eb0cff a09614 00a3ff 8c8c8c fa0a0f 14ff00 1fff00 ff1f00 ffe000 99ff00 0000ff
ff4700 00ebff 00adff 1f00ff 0bc8c8 ff5200 00fff5 003dff 00ff70 00ff85 ff0000 ffa300 ff6600 c2ff00
008fff 33ff00 0052ff 00ff29 00ffad 0a00ff adff00 00ff99 ff5c00 ff00ff ff00f5 ff0066 ffad00 ff0014
ffb8b8 001fff 00ff3d 0047ff ff00cc 00ffc2 00ff52 000aff 0070ff 3300ff 00c2ff 007aff 00ffa3 ff9900
00ff0a ff7000 8fff00 5200ff a3ff00 ffeb00 08b8aa 8500ff 00ff5c b800ff ff001f 00b8ff 00d6ff ff0070
5cff00 00e0ff 70e0ff 46b8a0 a300ff 9900ff 47ff00 ff00a3 ffcc00 ff008f 00ffeb 85ff00 ff00eb f500ff
ff007a fff500 0abed4 d6ff00 00ccff 1400ff ffff00 0099ff 0029ff 00ffcc 2900ff 29ff00 ad00ff 00f5ff
4700ff 7a00ff 00ffb8 005cff b8ff00 0085ff ffd600 19c2c2 66ff00 5c00ff
"""


def _colour(text: str) -> Colour:
    red, green, blue = bytes.fromhex(text)
    return red, green, blue


ADE20K_PALETTE = tuple(_colour(text) for text in _COLOURS.split())

MASKS = MaskValues(
    kind="0 for other, then 150 classes",
    labels={0: IGNORE, **{value: value - 1 for value in range(1, 151)}},
    text="ADE20k has 0 to 150, 0 for other; give the official masks, not shifted ones",
)

_FOLDERS = {"train": "training", "val": "validation"}


def read_ade20k(data_root: str | Path, *, variant: str = "challenge2016") -> SegmentationData:
    """Read the lists of ADE20k, in the order of the names.

    `data_root` is ADEChallengeData2016 or its parent. Counts other than 20,210 and 2,000 are noted.

    Raises DataError where the tree is incomplete, a split has no pictures, or a picture is in both
    splits; ConfigError for an unknown variant.
    """
    if variant not in VARIANTS:
        raise ConfigError(f"unknown ADE20k variant {variant!r}: use {', '.join(VARIANTS)}")
    root = find_root(
        data_root,
        ("ADEChallengeData2016",),
        [f"{part}/{folder}" for part in ("images", "annotations") for folder in _FOLDERS.values()],
        "ADE20k",
        "unpack ADEChallengeData2016.zip and give the folder it makes, or its parent, as data root",
    )
    train, val = (_pairs(root, folder) for folder in _FOLDERS.values())
    require_disjoint(train, val, root)
    return SegmentationData(
        name="ade20k",
        variant=variant,
        root=root,
        classes=ADE20K_CLASSES,
        palette=ADE20K_PALETTE,
        masks=MASKS,
        train=train,
        val=val,
        notes=count_notes("ADE20k", train, val, COUNTS),
    )


def _pairs(root: Path, folder: str) -> tuple[Pair, ...]:
    masks = root / "annotations" / folder
    pictures = listing(root / "images" / folder, "*.jpg")
    if not pictures:
        raise DataError(
            f"{root / 'images' / folder} holds no .jpg pictures: unpack ADEChallengeData2016.zip"
        )
    return tuple(Pair(path.stem, path, masks / f"{path.stem}.png") for path in pictures)
