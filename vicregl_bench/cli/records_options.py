"""Options of the commands that show records of several folders."""

from collections.abc import Callable, Iterable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vicregl_bench.errors import ConfigError

if TYPE_CHECKING:
    from vicregl_bench.batch.zoo import Zoo
    from vicregl_bench.records.collection import Entry

RUNS = Path("runs")
"""Where records are looked for unless folders are given."""

Folders = Annotated[
    list[Path] | None,
    typer.Option(
        "--records", help="Folder of records (default: runs); may be given several times."
    ),
]
ZooFile = Annotated[
    Path | None,
    typer.Option(
        "--zoo", help="zoo.yaml: what checkpoints are called, their rows of the paper, alpha."
    ),
]


def read_zoo_names(path: Path | None, rows_of: str | None = None) -> "Zoo | None":
    """The zoo that says what weights are called (its `named`); None without one.

    Args:
        path: of the zoo.
        rows_of: number of a table; a row that no table has is then an error, measured or not,
            which names the rows of this one.

    Raises:
        ConfigError: the zoo cannot be read, or has such a row.
    """
    if path is None:
        return None
    from vicregl_bench.batch.zoo import read_zoo, require_rows

    zoo = read_zoo(path)
    if rows_of is not None:
        require_rows(zoo, rows_of)
    return zoo


def warn_of_strangers(
    zoo: "Zoo | None", entries: "Iterable[Entry]", warn: Callable[[str], None]
) -> None:
    """Name every entry of a zoo that no record is of, and whose file is not there."""
    if zoo is not None:
        for text in zoo.strangers(entry.record for entry in entries):
            warn(text)


def require_one_form(as_json: bool, form: StrEnum) -> None:
    """Stop on --json beside a --format of another kind.

    Raises:
        ConfigError: both are given.
    """
    if as_json and form.value != "markdown":
        raise ConfigError(f"--json and --format {form.value} are two forms: choose one")
