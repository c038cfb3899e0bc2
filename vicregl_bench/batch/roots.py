"""A file of data roots, and of the settings in which tasks are run on them."""

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from vicregl_bench.batch.yaml_file import beside, read_yaml
from vicregl_bench.data import (
    CLASSIFICATION_SETS,
    DETECTION_SETS,
    MULTI_LABEL_SETS,
    SEGMENTATION_SETS,
)
from vicregl_bench.engine.settings import Section, flatten
from vicregl_bench.errors import ConfigError
from vicregl_bench.tasks.protocol import task_names

_SETS = (*SEGMENTATION_SETS, *DETECTION_SETS, *CLASSIFICATION_SETS, *MULTI_LABEL_SETS)


class _File(Section):
    """What a file of data roots holds."""

    roots: Annotated[dict[str, Annotated[str, Field(min_length=1)]], Field(min_length=1)]
    settings: dict[str, dict[str, Any]] = Field(default_factory=dict)


@dataclass(frozen=True)
class Roots:
    """Where data sets are.

    Attributes:
        path: the file.
        folders: name of a data set (`data.dataset` of a task) or of a task -> folder.
        settings: task -> dotted key -> value, as `run --set` takes them: deviations.
    """

    path: Path
    folders: Mapping[str, Path]
    settings: Mapping[str, Mapping[str, Any]]

    def folder(self, task: str, dataset: str) -> Path | None:
        """The data root of a task, whose own name goes before its data set's; None: none given."""
        return self.folders.get(task, self.folders.get(dataset))


def read_roots(path: Path) -> Roots:
    """Read a file of data roots; folders are relative to the file's own, and need not be there.

    Raises:
        ConfigError: the file cannot be read, has an unknown key, or names no data set or task that
            there is.
    """
    held = read_yaml(path, _File, "roots: {voc: VOCdevkit}")
    tasks = task_names()
    for name in held.roots:
        _require_known(path, f"roots.{name}", name, (*_SETS, *tasks), "data set or task")
    for name in held.settings:
        _require_known(path, f"settings.{name}", name, tasks, "task")
    return Roots(
        path=path,
        folders={name: beside(path, folder) for name, folder in held.roots.items()},
        settings={task: flatten(values) for task, values in held.settings.items()},
    )


def _require_known(path: Path, where: str, name: str, known: Iterable[str], what: str) -> None:
    known = list(known)
    if name not in known:
        near = difflib.get_close_matches(name, known, n=3, cutoff=0.4)
        hint = f"; did you mean {', '.join(near)}?" if near else ""
        raise ConfigError(f"{path}, {where}: no {what} of this name{hint}")
