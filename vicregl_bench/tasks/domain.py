"""What the parts of a run leave to the kind of task it is: segmentation, detection.

Planning, running, resuming, the sweep and the record are everybody's. A domain reads its data,
builds its models and data loaders, and scores its predictions.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

from torch import nn

from vicregl_bench.backbones.frozen import FrozenTrunk
from vicregl_bench.data import (
    ClassificationData,
    DetectionData,
    Labelled,
    MultiLabelData,
    MultiLabelled,
    Pair,
    Picture,
    SegmentationData,
)
from vicregl_bench.heads.sweep import HeadSpec
from vicregl_bench.tasks.outcome import Outcome
from vicregl_bench.tasks.request import RunRequest, Select
from vicregl_bench.tasks.settings import Settings, TrainedSettings

Item = Pair | Picture | Labelled | MultiLabelled
DataSet = SegmentationData | DetectionData | ClassificationData | MultiLabelData
Config = dict[str, Any]
Stage = Callable[[str, int], Callable[[int], None]]
"""Name and number of steps -> what is told how many are done."""
Data = TypeVar("Data", SegmentationData, DetectionData, ClassificationData, MultiLabelData)


class Domain(ABC, Generic[Data]):
    """One run's own part.

    Args:
        request: of the run.

    Attributes:
        metric: the score that rates are chosen by, of `records.metrics`.
        outcome: class of the outcomes.
        keeps: whether predictions of some val pictures are kept.
        dataset: lists of pictures.
        select: what the point of the grid is chosen on.
    """

    metric: str
    outcome: ClassVar[type[Outcome]]
    keeps: ClassVar[bool] = True
    dataset: Data

    def __init__(self, request: RunRequest) -> None:
        self.request, self.source = request, request.source
        self.select: Select = request.select

    @property
    @abstractmethod
    def settings(self) -> Settings:
        """Of the task."""

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


class TrainedDomain(Domain[Data]):
    """The own part of a run that trains by gradients.

    Attributes:
        scope: mmengine's default scope.
    """

    scope: ClassVar[str]

    @property
    @abstractmethod
    def settings(self) -> TrainedSettings:
        """Of the task."""

    @abstractmethod
    def train_loader(self, pictures: Sequence[Any], *, workers: int) -> Config:
        """Mmengine's configuration of an endless loader of training batches."""

    @abstractmethod
    def test_loader(self, pictures: Sequence[Any], *, workers: int) -> Config:
        """Mmengine's configuration of a loader of pictures to score, one at a time."""

    @abstractmethod
    def evaluation(self, pictures: Sequence[Any], keep: Collection[Any] = ()) -> Any:
        """An mmengine metric over pictures, some of which are kept.

        After a pass over the pictures its `outcome` is that of all heads, and `kept`, of each head,
        name -> what is kept of a picture.
        """

    @abstractmethod
    def sweep_model(self, trunk: FrozenTrunk) -> Any:
        """An mmengine model of all heads of the grid on one trunk; `sweep`: the `Heads`."""

    @abstractmethod
    def trained_model(self, head: HeadSpec) -> Any:
        """An mmengine model of one head and the whole backbone, with `TrainedSteps`."""

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
