"""Records as pandas tables, and tables as text."""

from collections.abc import Sequence
from typing import Literal

import pandas as pd

from vicregl_bench.errors import ConfigError
from vicregl_bench.records.schema import Record

Format = Literal["markdown", "csv", "latex", "json"]
DEVIATION_MARK = "†"


def column_name(record: Record) -> str:
    """One column a protocol, version and profile: other versions never share a column."""
    task = record.task
    return f"{task.name} v{task.version} ({task.profile})"


def _cell(record: Record) -> str:
    if record.best is None:
        return "diverged"
    mark = DEVIATION_MARK if record.deviations else ""
    return f"{record.best.miou_mean:.1f} ± {record.best.miou_std:.1f}{mark}"


def leaderboard(records: Sequence[Record], table: str | None = None) -> pd.DataFrame:
    """Checkpoints by protocols: best mIoU in percent, mean ± standard deviation over seeds.

    Interrupted records are left out. A cell whose run deviates from its protocol is marked. Where
    several runs of a checkpoint share a column (other settings), each gets a row of its own.

    Args:
        records: any records.
        table: keep only the protocols of this table of the paper.

    Raises:
        ConfigError: no record is left to show.
    """
    rows: dict[tuple[str, int], dict[str, str]] = {}
    columns: list[str] = []
    for record in records:
        if record.status == "interrupted" or (table and table not in record.task.tables):
            continue
        column = column_name(record)
        if column not in columns:
            columns.append(column)
        name, turn = record.checkpoint.name, 0
        while column in rows.get((name, turn), {}):
            turn += 1
        row = rows.setdefault(
            (name, turn),
            {
                "checkpoint": name,
                "method": record.checkpoint.method,
                "backbone": record.checkpoint.arch,
            },
        )
        row[column] = _cell(record)
    if not rows:
        where = f" for table {table}" if table else ""
        raise ConfigError(f"no finished record to show{where}; `vicregl-bench run` makes one")
    frame = pd.DataFrame(rows.values(), columns=["checkpoint", "method", "backbone", *columns])
    return frame.fillna("–")


def explain_deviations(records: Sequence[Record]) -> list[str]:
    """One line for each finished record that deviates, saying in what."""
    return [
        f"{DEVIATION_MARK} {record.checkpoint.name}, {column_name(record)}: "
        + "; ".join(record.deviations)
        for record in records
        if record.deviations and record.status != "interrupted"
    ]


def learning_rate_curve(record: Record) -> pd.DataFrame:
    """Mean and standard deviation of mIoU over seeds for each learning rate of a record."""
    frame = pd.DataFrame(
        [
            {"lr": r.lr, "miou": r.miou, "holdout": r.holdout_miou, "acc": r.pixel_accuracy}
            for r in record.results
        ]
    ).astype(float)
    grouped = frame.groupby("lr", sort=True)
    curve = pd.DataFrame(
        {
            "lr": grouped["lr"].first(),
            "mIoU": grouped["miou"].mean(),
            "std": grouped["miou"].std(ddof=0),
            "pixel acc.": grouped["acc"].mean(),
            "diverged": grouped["miou"].apply(lambda scores: int(scores.isna().sum())),
        }
    )
    if frame["holdout"].notna().any():
        curve.insert(3, "holdout mIoU", grouped["holdout"].mean())
    return curve.reset_index(drop=True).sort_values("lr", ascending=False, ignore_index=True)


def render(frame: pd.DataFrame, form: Format) -> str:
    """Render a frame of text cells.

    Raises:
        ConfigError: no such format.
    """
    match form:
        case "markdown":
            return frame.to_markdown(index=False, disable_numparse=True)
        case "csv":
            return frame.to_csv(index=False).rstrip("\n")
        case "latex":
            # escape: names of files and tasks hold underscores
            styler = frame.style.hide(axis="index").format(escape="latex")
            styler = styler.format_index(escape="latex", axis=1)
            return styler.to_latex(hrules=True).rstrip("\n")
        case "json":
            return frame.to_json(orient="records", force_ascii=False, indent=2)
    raise ConfigError(f"no format {form!r}; use markdown, csv, latex or json")
