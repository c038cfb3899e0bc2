"""What the parts of a run leave to the kind of task it is: segmentation, detection.

Planning, running, resuming, the sweep and the record are everybody's. A domain reads its data,
builds its models and data loaders, and scores its predictions.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Generic, Protocol, Self, TypeVar

from torch import Tensor, nn

from vicregl_bench.backbones.frozen import FrozenTrunk
from vicregl_bench.data import DetectionData, Pair, Picture, SegmentationData
from vicregl_bench.heads.sweep import Heads, HeadSpec
from vicregl_bench.tasks.request import RunRequest
from vicregl_bench.tasks.settings import Settings

Item = Pair | Picture
DataSet = SegmentationData | DetectionData
Config = dict[str, Any]
Stage = Callable[[str, int], Callable[[int], None]]
"""Name and number of steps -> what is told how many are done."""
Data = TypeVar("Data", SegmentationData, DetectionData)


@dataclass(frozen=True)
class HeadScore:
    """One head on a list of pictures, in percent; None where nothing could be scored.

    Attributes:
        score: of the domain's metric.
        scores: every metric, the domain's own too.
        by_class: the domain's metric, in the order of the data set's classes.
    """

    score: float
    scores: Mapping[str, float | None]
    by_class: Sequence[float | None]


class Outcome(ABC):
    """What K heads did on every picture of a list, as far as scores need it."""

    @abstractmethod
    def head(self, k: int) -> HeadScore:
        """The scores of head k."""

    @abstractmethod
    def interval(self, heads: Sequence[int]) -> tuple[float, float]:
        """95 % bootstrap interval over pictures of the mean of some heads' scores."""

    @abstractmethod
    def to_arrays(self, heads: Sequence[int] | None = None) -> dict[str, Any]:
        """Plain arrays, for a file; of some heads alone where that is asked for."""

    @classmethod
    @abstractmethod
    def from_arrays(cls, arrays: Mapping[str, Any]) -> Self:
        """What `to_arrays` gave.

        Raises:
            KeyError: an array is missing.
        """

    @classmethod
    @abstractmethod
    def together(cls, outcomes: Sequence[Self | None]) -> Self | None:
        """Outcomes of one head each as one; nothing scored where there is none.

        None where all are.
        """


class Evaluation(Protocol):
    """An mmengine metric after a pass over pictures.

    Attributes:
        outcome: of all heads, None before.
    """

    outcome: Outcome | None

    @property
    def kept(self) -> tuple[Mapping[str, Any], ...]:
        """Of each head, name -> what is kept of a picture."""


class SweepModel(Protocol):
    """An mmengine model of a frozen task: the heads of a sweep on one trunk."""

    @property
    def sweep(self) -> Heads:
        """The heads."""


class TrainedModel(Protocol):
    """An mmengine model of one run of a fine-tuned task."""

    diverged_at: Tensor


class Domain(ABC, Generic[Data]):
    """One run's own part.

    Args:
        request: of the run.

    Attributes:
        metric: the score that rates are chosen by, of `records.metrics`.
        scope: mmengine's default scope.
        outcome: class of the outcomes.
        dataset: lists of pictures.
    """

    metric: ClassVar[str]
    scope: ClassVar[str]
    outcome: ClassVar[type[Outcome]]
    dataset: Data

    def __init__(self, request: RunRequest) -> None:
        self.request, self.source = request, request.source

    @property
    @abstractmethod
    def settings(self) -> Settings:
        """Of the task."""

    @abstractmethod
    def train_loader(self, pictures: Sequence[Any], *, workers: int) -> Config:
        """Mmengine's configuration of an endless loader of training batches."""

    @abstractmethod
    def test_loader(self, pictures: Sequence[Any], *, workers: int) -> Config:
        """Mmengine's configuration of a loader of pictures to score, one at a time."""

    @abstractmethod
    def evaluation(self, pictures: Sequence[Any], keep: Collection[Any] = ()) -> Any:
        """An mmengine metric over pictures, which is an `Evaluation`; some are kept."""

    @abstractmethod
    def sweep_model(self, trunk: FrozenTrunk) -> Any:
        """A `SweepModel` of all heads of the grid."""

    @abstractmethod
    def trained_model(self, head: HeadSpec) -> Any:
        """A `TrainedModel` of one head and the whole backbone."""

    def tested(self, model: nn.Module) -> nn.Module:
        """What is evaluated in a model's place."""
        return model

    def before_scoring(self, model: nn.Module, loader: Callable[[], Any], stage: Stage) -> None:
        """What a trained model needs before it is scored.

        Args:
            model: after its last iteration.
            loader: makes the training loader anew, from the beginning of its stream.
            stage: begins a stage of progress, which raises where the run is to stop.

        Raises:
            RunInterruptedError: asked to stop.
        """

    def pictures(self, outcome: Outcome, best: Sequence[int]) -> dict[str, Any]:
        """Arrays to be kept beside the record, for comparisons: of the best heads, or of all."""
        return outcome.to_arrays(best)

    @abstractmethod
    def save_kept(
        self,
        path: Path,
        pictures: Sequence[Any],
        outcome: Outcome,
        head: int,
        kept: Mapping[str, Any],
    ) -> list[str]:
        """Write one head's predictions of some pictures to a file, if there are any.

        Args:
            path: of the file.
            pictures: whose predictions are wanted.
            outcome: of all heads.
            head: which of them is meant.
            kept: of this head's evaluation.

        Returns:
            Names of the pictures that there is no prediction of.
        """
