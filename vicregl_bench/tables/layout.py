"""The tables of VICRegL as the paper prints them: headings, groups, rows in order, numbers."""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import pandas as pd

from vicregl_bench.errors import ConfigError
from vicregl_bench.near import near_names
from vicregl_bench.tables.published import published

CAPTIONS = {
    "1": "Linear evaluation of a ResNet-50: ImageNet, Pascal VOC, Cityscapes",
    "2": "Linear evaluation of ConvNeXt and ViT: ImageNet, Pascal VOC, ADE20k",
    "3": "Ablation: matching criterion (ConvNeXt-S, 100 epochs)",
    "4": "Ablation: SSL criterion (ResNet-50, 300 epochs)",
    "5": "Ablation: multi-crop (ConvNeXt-S, 100 epochs)",
    "6": "Ablation: number of selected matches (ConvNeXt-S, 100 epochs)",
    "7": "Ablation: VICReg local criterion (ConvNeXt-S, 100 epochs)",
    "8": "FCN head on a ResNet-50: Pascal VOC, frozen and fine-tuned",
    "9": "Detection on Pascal VOC: Faster R-CNN fine-tuned, linear head frozen",
    "10": "Semi-supervised Mask R-CNN on COCO (ResNet-50)",
    "11": "Running time and peak memory of pretraining (ResNet-50, batch size 2048, 32 V100)",
}
"""Number of a table -> what it is about, after the paper's caption and text."""

MISSING = "–"
_LEADS = {
    "1": ("Method", "Epochs"),
    "2": ("Method", "Backbone", "Params", "Epochs"),
    "5": ("Method", "Multi-crop"),
    "6": ("γ1", "γ2"),
    "7": ("Criterion",),
    "8": ("Method", "Epochs"),
    "9": ("Method", "Backbone"),
}  # of the others ("Method",)
_UNITS = {"percent": "{:.1f}", "hours": "{:g}h", "G": "{:g}G"}


@dataclass(frozen=True)
class PrintedColumn:
    """A column of results.

    Attributes:
        name: stable name.
        path: its headings, the outermost first.
        protocol: task whose records belong here, or "".
        metric: the score of those records, or "".
        unit: percent, hours or G.
    """

    name: str
    path: tuple[str, ...]
    protocol: str
    metric: str
    unit: str


@dataclass(frozen=True)
class PrintedNumber:
    """A number, and what has to be known of it (`flag` and `note` of docs/published.md)."""

    value: float
    text: str
    bold: bool
    flag: str
    note: str


@dataclass(frozen=True)
class PrintedRow:
    """A row.

    Attributes:
        name: unique in its table; what a zoo's `row` says.
        names: every name that it alone has in its table, `name` among them.
        group: heading above it, or "".
        lead: heading -> text of the columns before the results.
        alpha: of VICRegL's global criterion, where printed.
        epochs: of pretraining, from table, caption or text.
        setting: what else tells it from others.
        remark: what the paper prints as a mark.
        numbers: name of a column -> number.
    """

    name: str
    names: tuple[str, ...]
    group: str
    lead: Mapping[str, str]
    method: str
    alpha: float | None
    backbone: str
    epochs: int | None
    setting: str
    remark: str
    numbers: Mapping[str, PrintedNumber]


@dataclass(frozen=True)
class Layout:
    """A printed table.

    Attributes:
        number: as in `CAPTIONS`.
        leads: headings of the columns before the results.
    """

    number: str
    caption: str
    leads: tuple[str, ...]
    columns: tuple[PrintedColumn, ...]
    rows: tuple[PrintedRow, ...]


@cache
def layout(number: str) -> Layout:
    """A table of VICRegL as it is printed.

    Source: `results/published.csv`. A setting that only a mark shows (ImageNet-22k in table 2) is
    a remark; tables 5 to 7 have their settings in columns of their own, as printed.

    Raises:
        ConfigError: no such table.
    """
    if number not in CAPTIONS:
        raise ConfigError(
            f"VICRegL has no table {number!r} with published numbers: {', '.join(CAPTIONS)}"
        )
    frame = published("vicregl", number)
    heads = frame.drop_duplicates("column")
    columns = tuple(
        PrintedColumn(
            name=row["column"],
            path=tuple(row["column_title"].split(" / "))
            if row["unit"] == "percent"
            else (row["column_title"],),  # "time / 100 epochs" is one heading
            protocol=row["protocol"],
            metric=row["metric"],
            unit=row["unit"],
        )
        for _, row in heads.iterrows()
    )
    first = [same.iloc[0] for _, same in frame.groupby("row")]
    shared = [_candidates(row) for row in first]
    counts = Counter(name for names in shared for name in dict.fromkeys(names))
    # the shortest way of naming that tells all rows of the table apart
    way = next(k for k in range(4) if len({names[k] for names in shared}) == len(first))
    rows = tuple(
        PrintedRow(
            name=names[way],
            names=tuple(
                dict.fromkeys([names[way], *(name for name in names if counts[name] == 1)])
            ),
            group=row["group"],
            lead=_lead(number, row),
            method=row["method"],
            alpha=None if pd.isna(row["alpha"]) else float(row["alpha"]),
            backbone=row["backbone"],
            epochs=None if pd.isna(row["epochs"]) else int(row["epochs"]),
            setting=row["setting"],
            remark=row["setting"] if number == "2" else "",
            numbers=_numbers(frame[frame["row"] == row["row"]]),
        )
        for row, names in zip(first, shared, strict=True)
    )
    return Layout(number, CAPTIONS[number], _LEADS.get(number, ("Method",)), columns, rows)


def find_row(table: Layout, name: str) -> PrintedRow | None:
    """The row of a name; None where the table has none, though another of the paper has one.

    Upper and lower case, blanks around "=" and "alpha" for "α" make no difference. The backbone may
    always be part of the name: `VICRegL α=0.75, ResNet-50` is in tables 1, 8 and 9.

    Raises:
        ConfigError: no table of the paper has such a row; near names are given, this table's first.
    """
    wanted = _plain(name)
    found = _row_of(table, wanted)
    others = [layout(number) for number in CAPTIONS if number != table.number]
    if found is not None or any(_row_of(other, wanted) is not None for other in others):
        return found
    known = [one for row in table.rows for one in row.names]
    raise ConfigError(
        f"no printed row {name!r}, in table {table.number} or another"
        f"{near_names(name, known, plain=_plain, cutoff=0.5)} "
        f"(`vicregl-bench table {table.number} --published` shows all)"
    )


def _row_of(table: Layout, wanted: str) -> PrintedRow | None:
    named = (row for row in table.rows if wanted in map(_plain, row.names))
    return next(named, None)


def _plain(name: str) -> str:
    text = re.sub(r"\s*=\s*", "=", " ".join(name.lower().split()))
    return text.replace("alpha", "α").replace("gamma", "γ")


def _base(row: "pd.Series[Any]") -> str:
    alpha = "" if pd.isna(row["alpha"]) else f" α={row['alpha']:g}"
    return f"{row['method']}{alpha}"


def _candidates(row: "pd.Series[Any]") -> list[str]:
    """Ways to name a row, the shortest first."""
    base, backbone, setting = _base(row), str(row["backbone"]), str(row["setting"])
    ways = [(base,), (base, backbone), (base, setting), (base, backbone, setting)]
    return [", ".join(word for word in words if word) for words in ways]


def _lead(number: str, row: "pd.Series[Any]") -> dict[str, str]:
    setting = str(row["setting"])
    if number == "6":
        return dict(zip(_LEADS["6"], re.findall(r"(?<=gamma\d )\d+", setting), strict=True))
    whole = {
        "Method": setting if number == "3" else _base(row),
        "Backbone": str(row["backbone"]),
        "Params": MISSING if pd.isna(row["parameters"]) else f"{row['parameters']}M",
        "Epochs": MISSING if pd.isna(row["epochs"]) else str(row["epochs"]),
        "Multi-crop": "✓" if setting else "",
        "Criterion": setting.removeprefix("local criterion "),
    }
    return {name: whole[name] for name in _LEADS.get(number, ("Method",))}


def _numbers(rows: pd.DataFrame) -> dict[str, PrintedNumber]:
    return {
        row["column"]: PrintedNumber(
            value=float(row["value"]),
            text=_UNITS[row["unit"]].format(row["value"]),
            bold=bool(row["bold"]),
            flag=row["flag"],
            note=row["note"],
        )
        for _, row in rows.iterrows()
    }
