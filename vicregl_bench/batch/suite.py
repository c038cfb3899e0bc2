"""A suite: the tasks by which a model is guarded, their data, and the weights, as a YAML file."""

import difflib
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, NonNegativeFloat, PositiveInt, field_validator, model_validator

from vicregl_bench.backbones.names import is_random
from vicregl_bench.batch.job import Job
from vicregl_bench.batch.weights import Weights, WeightsGiven
from vicregl_bench.batch.yaml_file import Name, beside, read_yaml
from vicregl_bench.data import MAKERS
from vicregl_bench.engine.settings import Section
from vicregl_bench.errors import ConfigError

_LEAST = {"folder": 6}  # training pictures of a made-up set: one a class
_EXAMPLE = "{data: {made: {generate: {kind: voc}}}, tasks: [{task: voc_dense_knn, data: made}]}"
_READ_AS = {
    "voc_boxes": ("voc_boxes", "voc_labels"),
    "folder": ("folder", "mini_imagenet", "imagenet100"),
}
"""Data sets of tasks, for the layouts that others than their own are read from."""


class Generated(Section):
    """Pictures that the package makes itself; the same values, the same pictures.

    Attributes:
        kind: a layout of `data.MAKERS`.
    """

    kind: str
    train: PositiveInt = 48
    val: PositiveInt = 24
    seed: int = Field(0, ge=0)

    @field_validator("kind")
    @classmethod
    def _known(cls, kind: str) -> str:
        if kind not in MAKERS:
            raise ValueError(f"no layout {kind!r}; use {', '.join(MAKERS)}")
        return kind

    @model_validator(mode="after")
    def _enough(self) -> Self:
        least = _LEAST.get(self.kind, 1)
        if self.train < least:
            raise ValueError(f"train: {self.kind} needs at least {least} pictures, one a class")
        return self


class SuiteData(Section):
    """One data set: a folder, or made-up pictures."""

    root: Path | None = None
    generate: Generated | None = None

    @model_validator(mode="after")
    def _one_of_them(self) -> Self:
        if (self.root is None) == (self.generate is None):
            raise ValueError("give root: a folder, or generate: made-up pictures, one of them")
        return self

    def make(self, folder: Path) -> Path:
        """The data root; made-up pictures are made below `folder`, once.

        Raises:
            DataError: the folder holds something else, or cannot be written.
        """
        if self.root is not None:
            return self.root
        assert self.generate is not None
        wanted = self.generate
        # what it follows from is in its name: other pictures never meet the folder of these
        out = folder / f"{wanted.kind}-{wanted.train}-{wanted.val}-seed{wanted.seed}"
        return MAKERS[wanted.kind](out, train=wanted.train, val=wanted.val, seed=wanted.seed)


class SuiteTask(Section):
    """One row of the suite: a task on a data set, with the options of `vicregl-bench run`.

    Attributes:
        name: of the row, unique; the task's where none is given.
        data: a name below `data`.
        overrides: `set` of the file.
        tolerance: in points; None leaves it to what was measured (`guard.tolerance`).
    """

    task: str
    name: Name
    data: str
    profile: Literal["paper", "ci"] = "ci"
    preset: str | None = None
    select: Literal["val", "holdout"] = "val"
    precision: Literal["fp32", "bf16"] | None = None
    overrides: dict[str, Any] = Field({}, alias="set")
    tolerance: NonNegativeFloat | None = None

    @model_validator(mode="before")
    @classmethod
    def _named(cls, fields: Any) -> Any:
        if isinstance(fields, dict) and "name" not in fields and "task" in fields:
            return fields | {"name": fields["task"]}
        return fields

    @property
    def options(self) -> dict[str, str]:
        """Further options of `vicregl-bench run`."""
        given = {"preset": self.preset, "precision": self.precision}
        chosen = {key: value for key, value in given.items() if value is not None}
        return {"select": self.select, **chosen}


class Suite(Section):
    """Everything in the file.

    Attributes:
        checkpoint: the weights; what it leaves out, the command line may give.
        tolerance: in points, of every task that gives none; None leaves it to what was measured.
    """

    checkpoint: WeightsGiven = WeightsGiven()
    tolerance: NonNegativeFloat | None = None
    data: dict[str, SuiteData] = Field(min_length=1)
    tasks: tuple[SuiteTask, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _names_fit(self) -> Self:
        seen: set[str] = set()
        for index, row in enumerate(self.tasks):
            if row.name in seen:
                raise ValueError(
                    f"tasks[{index}].name: {row.name!r} is taken; give each a name of its own"
                )
            seen.add(row.name)
            if row.data not in self.data:
                known = ", ".join(difflib.get_close_matches(row.data, self.data) or self.data)
                raise ValueError(
                    f"tasks[{index}].data: nothing is called {row.data!r} under data; there: "
                    f"{known}"
                )
        return self

    def tolerance_of(self, row: SuiteTask) -> float | None:
        """The tolerance that the file gives a row, in points; None: none."""
        return self.tolerance if row.tolerance is None else row.tolerance


def read_suite(path: Path) -> Suite:
    """Read and check a suite; relative paths in it become relative to its folder, `~` is home.

    Only the file itself is checked, `require_possible_suite` checks what it names.

    Raises:
        ConfigError: no such file, no YAML, or a key or value that is impossible, named.
    """
    suite = read_yaml(path, Suite, _EXAMPLE)
    path = path.resolve()
    data = {
        name: one if one.root is None else one.model_copy(update={"root": beside(path, one.root)})
        for name, one in suite.data.items()
    }
    checkpoint, ckpt = suite.checkpoint, suite.checkpoint.ckpt
    if ckpt is not None and not is_random(ckpt):
        checkpoint = checkpoint.model_copy(update={"ckpt": str(beside(path, ckpt))})
    return suite.model_copy(update={"data": data, "checkpoint": checkpoint})


def chosen_weights(suite: Suite, given: WeightsGiven) -> Weights:
    """The weights to judge: what the command line gives, and the rest from the suite.

    Each option that is given wins over the suite's. `trust_pickle` is of one file, so the suite's
    does not reach another one.

    Raises:
        ConfigError: neither names a checkpoint, or there is no such file.
    """
    own = suite.checkpoint
    ckpt = given.ckpt or own.ckpt
    if ckpt is None:
        raise ConfigError("no checkpoint: give --ckpt, or `checkpoint: {ckpt: ...}` in the suite")
    if not is_random(ckpt) and not Path(ckpt).is_file():
        raise ConfigError(f"no checkpoint file {ckpt}")
    return Weights(
        ckpt=ckpt,
        arch=given.arch or own.arch,
        method=given.method or own.method,
        prefix=given.prefix or own.prefix,
        trust_pickle=given.trust_pickle or (own.trust_pickle and given.ckpt is None),
    )


def require_possible_suite(path: Path, suite: Suite) -> None:
    """Stop on what is wrong with a suite's tasks and data before anything is made, read or run.

    Raises:
        ConfigError: no such folder, a task, preset or setting that no family of backbones has, or
            made-up pictures of another layout than the task's data set.
    """
    from vicregl_bench.tasks.protocol import require_possible

    for name, one in suite.data.items():
        if one.root is not None and not one.root.is_dir():
            raise ConfigError(f"suite {path}: data.{name}.root: no folder {one.root}")
    for index, row in enumerate(suite.tasks):
        try:
            require_possible(row.task, row.profile, row.overrides, row.preset)
            _require_fitting(row, suite.data[row.data])
        except ConfigError as error:
            raise ConfigError(f"suite {path}: tasks[{index}] ({row.name}): {error}") from None


def require_weights(path: Path, suite: Suite, weights: Weights) -> None:
    """Read the checkpoint once, and stop where it, or a task on it, cannot be.

    Raises:
        CheckpointError: the file cannot be read or does not hold the backbone whole.
        ConfigError: an option that does not fit, or a task or setting that is not for this family
            of backbones.
    """
    from vicregl_bench.tasks.protocol import load_task

    source = weights.read()
    for index, row in enumerate(suite.tasks):
        try:
            load_task(
                row.task,
                row.profile,
                row.overrides,
                family=source.architecture.family,
                arch=source.arch,
                preset=row.preset,
                suggested=source.card.detection_preset,
            )
        except ConfigError as error:
            raise ConfigError(f"suite {path}: tasks[{index}] ({row.name}): {error}") from None


def _require_fitting(row: SuiteTask, data: SuiteData) -> None:
    """Stop on made-up pictures that the task cannot read.

    Raises:
        ConfigError: they are of another layout than the task's data set.
    """
    from vicregl_bench.tasks.protocol import load_task, protocol_info

    if data.generate is None:
        return
    family = (protocol_info(row.task).only or ("resnet",))[0]
    own = load_task(row.task, row.profile, family=family).settings.data.dataset
    wanted = row.overrides.get("data.dataset", own)
    kind = data.generate.kind
    if wanted in read_as(kind):
        return
    kinds = [one for one in MAKERS if wanted in read_as(one)]
    advice = f"generate kind {kinds[0]}" if kinds else "give a root, for it cannot be made up"
    raise ConfigError(f"{row.task} reads {wanted}, and data.{row.data} is made as {kind}: {advice}")


def read_as(kind: str) -> tuple[str, ...]:
    """The data sets of tasks that are read from made-up pictures of a layout."""
    return _READ_AS.get(kind, (kind,))


def suite_jobs(
    suite: Suite,
    weights: Weights,
    out: Path,
    options: dict[str, str] | None = None,
    *,
    force: bool = False,
) -> dict[str, Job]:
    """The job of each row, by its name; made-up pictures are made, below `out`/data.

    Args:
        suite: read by `read_suite`.
        weights: to judge.
        out: folder of records.
        options: of `vicregl-bench run`, for every job, name without dashes -> value.
        force: run again what is there.

    Raises:
        DataError: the folder of made-up pictures holds something else, or cannot be written.
    """
    used = {row.data for row in suite.tasks}
    roots = {name: one.make(out / "data") for name, one in suite.data.items() if name in used}
    return {
        row.name: Job(
            weights=weights,
            task=row.task,
            data_root=roots[row.data],
            out=out,
            profile=row.profile,
            options=row.options | (options or {}),
            overrides=row.overrides,
            force=force,
        )
        for row in suite.tasks
    }
