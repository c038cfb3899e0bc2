"""The numbers that papers print in their tables: `results/published.csv`, see docs/published.md."""

from pathlib import Path

import pandas as pd

from vicregl_bench.errors import ConfigError, RecordError
from vicregl_bench.records.metrics import TITLES
from vicregl_bench.shipped import shipped

PAPERS = {
    "vicregl": "VICRegL",
    "vicreg": "VICReg",
    "gl_sd": "global-local self-distillation",
    "scaling": "Scaling VICReg",
}
"""Papers by the name they have in the file."""

COLUMNS = (
    "paper",
    "table",
    "row",
    "group",
    "method",
    "alpha",
    "backbone",
    "parameters",
    "epochs",
    "setting",
    "column",
    "column_title",
    "protocol",
    "metric",
    "value",
    "unit",
    "difference",
    "bold",
    "flag",
    "note",
    "source",
)
KEY = ("paper", "table", "row", "method", "alpha", "column")
"""What no two numbers share."""

_NEEDED = ("paper", "table", "row", "method", "column", "column_title", "value", "unit", "source")
_WHOLE = ("row", "parameters", "epochs")
_REAL = ("alpha", "value", "difference")
_WORDS = {
    "paper": (*PAPERS,),
    "metric": ("", *TITLES),
    "unit": ("percent", "hours", "G"),
    "bold": ("", "yes"),
    "flag": ("", "shifted", "text differs"),
}


def published(paper: str | None = None, table: str | None = None) -> pd.DataFrame:
    """The printed numbers, one a row, in the order of the papers' tables.

    Args:
        paper: a name of `PAPERS`; None is all.
        table: number of a table, such as "1"; None is all. Of all papers if none is named.

    Returns:
        The columns of `COLUMNS`: numbers where they are numbers (`row` int, `parameters` and
        `epochs` Int64, `alpha`, `value` and `difference` float, NaN where none is printed), `bold`
        as bool, text for the others and "" where there is none.

    Raises:
        ConfigError: nothing of this paper or table.
        RecordError: the file is missing or damaged.
    """
    frame = read_published(shipped("results/published.csv"))
    if paper is not None and paper not in PAPERS:
        raise ConfigError(f"no paper {paper!r} with published numbers: {', '.join(PAPERS)}")
    if paper is not None:
        frame = frame[frame["paper"] == paper]
    if table is not None:
        known = ", ".join(frame["table"].unique())
        frame = frame[frame["table"] == table]
        if frame.empty:
            of = f" of {paper}" if paper else ""
            raise ConfigError(f"no published numbers of table {table!r}{of}: {known}")
    return frame.reset_index(drop=True)


def read_published(path: Path) -> pd.DataFrame:
    """Read and check a file of printed numbers; see `published`.

    Raises:
        RecordError: it cannot be read, has other columns than `COLUMNS`, a number twice, or a cell
            that is none of what its column may hold.
    """
    try:
        frame = pd.read_csv(
            path, header=None, dtype=str, keep_default_na=False, skip_blank_lines=False
        )
    except (OSError, ValueError) as error:  # the latter: pandas' own, and UnicodeDecodeError
        reason = " ".join(str(error).split())
        raise RecordError(f"cannot read published numbers: {path}: {reason}") from error
    header = [str(name) for name in frame.iloc[0]]
    if sorted(header) != sorted(COLUMNS):
        unknown = [name for name in header if name not in COLUMNS or header.count(name) > 1]
        missing = [name for name in COLUMNS if name not in header]
        words = [f"unknown or twice {', '.join(unknown)}"] if unknown else []
        words += [f"missing {', '.join(missing)}"] if missing else []
        raise RecordError(f"{path}: other columns than expected: {'; '.join(words)}")
    frame = frame[1:].reset_index(drop=True)
    frame.columns = pd.Index(header)
    frame = frame[[*COLUMNS]].fillna("")
    for name in _NEEDED:
        _refuse(path, frame, frame[name] == "", f"no {name}")
    for name, words_of in _WORDS.items():
        expected = ", ".join(repr(word) for word in words_of)
        _refuse(path, frame, ~frame[name].isin(words_of), f"{name} is none of {expected}")
    twice = frame.duplicated([*KEY])
    _refuse(path, frame, twice, f"a number twice (equal {', '.join(KEY)})")
    for name in (*_WHOLE, *_REAL):
        numbers = pd.to_numeric(frame[name].where(frame[name] != ""), errors="coerce")
        _refuse(path, frame, numbers.isna() & (frame[name] != ""), f"{name} is no number")
        if name in _WHOLE:
            _refuse(path, frame, numbers.notna() & (numbers % 1 != 0), f"{name} is not whole")
        frame[name] = numbers.astype("Int64" if name in _WHOLE else "float64")
    frame["row"] = frame["row"].astype("int64")
    out = (frame["unit"] == "percent") & ~frame["value"].between(0, 100)
    _refuse(path, frame, out, "percentage not within 0 and 100")
    frame["bold"] = frame["bold"] == "yes"
    return frame


def _refuse(path: Path, frame: pd.DataFrame, wrong: "pd.Series[bool]", what: str) -> None:
    """Raise with the line of the first row that is wrong; the header is line 1."""
    if wrong.any():
        index = int(wrong.to_numpy().argmax())
        row = frame.iloc[index]
        where = f"{row['paper']}, table {row['table']}, {row['column']}"
        raise RecordError(f"{path}, line {index + 2} ({where}): {what}")
