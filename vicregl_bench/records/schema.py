"""The record of a run: what was measured, under which protocol, on what, and how.

Scores are percentages in [0, 100], the higher the better (`metrics` has their names), but for
`distance_error`: percent of a view's side, up to 141, the lower the better. Times are in seconds,
memory in MiB. A value that does not exist (the IoU of a class that never occurs, the score
of a diverged head) is null, never NaN.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

SCHEMA_VERSION: Literal[2] = 2
_Percent = Annotated[float, Field(ge=0, le=100)]
_Score = Annotated[float, Field(ge=0, le=142)]  # distance_error: up to the diagonal of a square


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class TaskInfo(_Part):
    """The protocol, and every setting that the run had."""

    name: str
    version: int
    profile: str
    preset: str | None = None  # of a protocol that has several
    title: str
    tables: tuple[str, ...]  # tables of the VICRegL paper
    source: str
    settings: dict[str, Any]  # after profile and overrides
    select: Literal["val", "holdout"]  # what the best learning rate was chosen on
    metric: str  # the score that rates are chosen by and tables show, of `metrics.TITLES`


class CheckpointInfo(_Part):
    """The weights that were judged."""

    name: str  # file name, or random:ARCH
    method: str
    arch: str
    weights_sha256: str  # over the tensors used, in float32
    file_sha256: str | None
    card: dict[str, Any]
    coverage: dict[str, Any] | None
    notes: tuple[str, ...] = ()


class DataInfo(_Part):
    """The pictures."""

    root: str
    variant: str
    train: int
    val: int
    holdout: int
    fingerprint: str
    fingerprint_kind: str  # what it was taken over: "content" or "names+sizes"


class HeadResult(_Part):
    """One point of the grid and seed."""

    lr: float | None = None  # None of what has no learning rate
    seed: int
    score: _Percent | None  # of the task's metric
    scores: dict[str, _Score | None] = {}  # every metric, the task's own too
    by_class: dict[str, _Percent | None] | None = None  # the task's metric
    holdout: _Percent | None = None  # the same score on the held-out slice of train
    options: dict[str, Any] = {}  # what a grid varies beside the learning rate
    diverged_at: int | None = None  # iteration at which the loss stopped being finite
    notes: tuple[str, ...] = ()  # such as a fit that ended before it converged


class Best(_Part):
    """The best point of the grid: mean and population standard deviation over its seeds."""

    lr: float | None = None
    score: _Percent
    std: _Percent
    seeds: int
    interval: tuple[_Percent, _Percent]  # 95 % bootstrap over val pictures
    scores: dict[str, _Score | None] = {}  # every metric, mean over seeds
    by_class: dict[str, _Percent | None] = {}  # mean over seeds
    options: dict[str, Any] = {}


class TrainedParameter(_Part):
    """A parameter of a head on a frozen trunk."""

    name: str
    layer: str  # class of its module
    shape: tuple[int, ...]


class Cost(_Part):
    """What the run took; interrupted parts are counted in."""

    wall_s: float
    train_s: float
    pictures_per_second: float | None  # in training, trunk and all heads
    peak_memory_mib: float


class Environment(_Part):
    """Where the run was made."""

    device: str
    precision: str
    platform: str
    cpu_count: int
    versions: dict[str, str]
    git_revision: str | None


class Progress(_Part):
    """How far a run has come; of a fine-tuned task, all its runs together."""

    iterations: int
    of: int


class Record(_Part):
    """One run. `key` identifies protocol, settings, weights and data: one key, one record."""

    schema_version: Literal[2] = SCHEMA_VERSION
    key: str
    status: Literal["complete", "interrupted", "diverged"]
    created: str  # ISO 8601, UTC
    task: TaskInfo
    checkpoint: CheckpointInfo
    data: DataInfo
    deviations: tuple[str, ...]
    progress: Progress
    results: tuple[HeadResult, ...] = ()
    best: Best | None = None
    frozen_hash_unchanged: bool | None = None
    trained: tuple[TrainedParameter, ...] = ()  # of a frozen task's first head, all there are
    cost: Cost
    environment: Environment
    command: str
    pictures_file: str | None = None  # what was measured on every val picture, beside the record
    predictions_file: str | None = None  # predictions of some val pictures, beside the record

    @property
    def file_name(self) -> str:
        """Name of the record's file: readable, and unique by its key."""
        stem = self.checkpoint.name.replace(":", "-").removesuffix(".tar").removesuffix(".pth")
        safe = "".join(c if c.isalnum() or c in "-_." else "_" for c in stem)
        task = self.task
        return f"{task.name}-v{task.version}-{task.profile}-{safe}-{self.key[:12]}.json"
