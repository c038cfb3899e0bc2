"""Records as pandas tables, and tables as text."""

from collections.abc import Sequence

import pandas as pd

from vicregl_bench.errors import ConfigError
from vicregl_bench.records.schema import Best, HeadResult, Record

DEVIATION_MARK = "†"


def column_name(record: Record) -> str:
    """One column a protocol, version and profile: other versions never share a column."""
    task = record.task
    return f"{task.name} v{task.version} ({task.profile})"


def _cell(record: Record) -> str:
    if record.best is None:
        return "diverged"
    mark = DEVIATION_MARK if record.deviations else ""
    preset = f" ({record.task.preset})" if record.task.preset else ""
    return f"{score_text(record.best, 1)}{mark}{preset}"


def score_text(best: Best, digits: int) -> str:
    """Score and its spread over seeds; of one seed, which has none, the score alone."""
    spread = f" ± {best.std:.{digits}f}" if best.seeds > 1 else ""
    return f"{best.score:.{digits}f}{spread}"


def _shown(records: Sequence[Record], table: str | None) -> list[Record]:
    """The finished records whose protocol belongs to a table of the paper (to any, if None)."""
    shown = [
        record
        for record in records
        if record.status != "interrupted" and (table is None or table in record.task.tables)
    ]
    if not shown:
        where = f" for table {table}" if table else ""
        raise ConfigError(f"no finished record to show{where}; `vicregl-bench run` makes one")
    return shown


def leaderboard(records: Sequence[Record], table: str | None = None) -> pd.DataFrame:
    """Checkpoints by protocols, for reading: best score in percent, mean ± deviation over seeds.

    Interrupted records are left out. A cell whose run deviates from its protocol is marked. A row
    is one set of weights in one architecture; where several runs of it share a column (other
    settings), each gets a row of its own. Different weights of the same file name are told apart by
    the beginning of their hash.

    Args:
        records: any records.
        table: keep only the protocols of this table of the paper.

    Raises:
        ConfigError: no record is left to show.
    """
    shown = _shown(records, table)
    hashes: dict[str, set[tuple[str, str]]] = {}
    for record in shown:
        checkpoint = record.checkpoint
        identity = (checkpoint.weights_sha256, checkpoint.arch)
        hashes.setdefault(checkpoint.name, set()).add(identity)
    rows: dict[tuple[str, str, int], dict[str, str]] = {}
    columns: list[str] = []
    for record in shown:
        column, checkpoint = column_name(record), record.checkpoint
        if column not in columns:
            columns.append(column)
        identity = (checkpoint.weights_sha256, checkpoint.arch)
        turn = 0
        while column in rows.get((*identity, turn), {}):
            turn += 1
        name = checkpoint.name
        if len({weights for weights, _ in hashes[name]}) > 1:
            name = f"{name} ({checkpoint.weights_sha256[:8]})"
        row = rows.setdefault(
            (*identity, turn),
            {"checkpoint": name, "method": checkpoint.method, "backbone": checkpoint.arch},
        )
        row[column] = _cell(record)
    frame = pd.DataFrame(rows.values(), columns=["checkpoint", "method", "backbone", *columns])
    return frame.fillna("–")


def measurements(records: Sequence[Record], table: str | None = None) -> pd.DataFrame:
    """One row a finished record, for programs: plain numbers, deviations in words.

    Raises:
        ConfigError: no record is left to show.
    """
    return pd.DataFrame(
        [
            {
                "checkpoint": record.checkpoint.name,
                "method": record.checkpoint.method,
                "backbone": record.checkpoint.arch,
                "weights_sha256": record.checkpoint.weights_sha256,
                "task": record.task.name,
                "version": record.task.version,
                "profile": record.task.profile,
                "preset": record.task.preset or "",
                "lr": record.best.lr if record.best else None,
                "options": options_text(record.best) if record.best else "",
                "metric": record.task.metric,
                "score": record.best.score if record.best else None,
                "std": record.best.std if record.best else None,
                "seeds": record.best.seeds if record.best else 0,
                "low": record.best.interval[0] if record.best else None,
                "high": record.best.interval[1] if record.best else None,
                "deviations": "; ".join(record.deviations),
            }
            for record in _shown(records, table)
        ]
    )


def explain_deviations(records: Sequence[Record], table: str | None = None) -> list[str]:
    """One line for each shown record that deviates, saying in what.

    Raises:
        ConfigError: no record is left to show.
    """
    return [
        f"{DEVIATION_MARK} {record.checkpoint.name}, {column_name(record)}: "
        + "; ".join(record.deviations)
        for record in _shown(records, table)
        if record.deviations
    ]


def learning_rate_curve(record: Record) -> pd.DataFrame:
    """Every point of a record's grid, the largest learning rate first: means over its seeds.

    Points of one rate, or of none, stay in the order of the grid.

    Returns:
        Columns `lr` (NaN where there is none), `options` (what else the grid varies, in words, or
        empty), `point` (both), `score` and `std` (of the task's metric), `holdout` where a held-out
        slice chose, the other metrics by their names, and `diverged`, the number of seeds that did.
    """
    metric = record.task.metric
    others = [name for result in record.results for name in result.scores if name != metric]
    names = list(dict.fromkeys(others))
    frame = pd.DataFrame(
        [
            {"lr": result.lr, "score": result.score, "holdout": result.holdout}
            | {name: result.scores.get(name) for name in names}
            for result in record.results
        ]
    ).astype(float)
    frame["options"] = [options_text(result) for result in record.results]
    frame["point"] = [point_text(result) for result in record.results]
    grouped = frame.groupby(["lr", "options"], sort=False, dropna=False)
    curve = pd.DataFrame(
        {
            "lr": grouped["lr"].first(),
            "options": grouped["options"].first(),
            "point": grouped["point"].first(),
            "score": grouped["score"].mean(),
            "std": grouped["score"].std(ddof=0),
        }
    )
    if frame["holdout"].notna().any():
        curve["holdout"] = grouped["holdout"].mean()
    for name in names:
        curve[name] = grouped[name].mean()
    curve["diverged"] = grouped["score"].apply(lambda scores: int(scores.isna().sum()))
    curve = curve.reset_index(drop=True)
    return curve.sort_values("lr", ascending=False, ignore_index=True, kind="stable")


def options_text(result: HeadResult | Best) -> str:
    """What a grid varies beside the learning rate, in words; empty where it varies nothing else."""
    return ", ".join(
        f"{name} {value}" if isinstance(value, str) else f"{name} {value:g}"
        for name, value in sorted(result.options.items())
    )


def point_text(result: HeadResult | Best) -> str:
    """A point of a grid in words, its learning rate where there is one."""
    words = [] if result.lr is None else [f"lr {result.lr:g}"]
    return ", ".join([*words, *filter(None, [options_text(result)])])


def render_latex(frame: pd.DataFrame) -> str:
    """A booktabs table of text cells; file and task names are escaped."""
    styler = frame.style.hide(axis="index").format(escape="latex")
    styler = styler.format_index(escape="latex", axis=1)
    latex = styler.to_latex(hrules=True).rstrip("\n")
    return latex.replace("±", r"$\pm$").replace(DEVIATION_MARK, r"$^\dagger$")
