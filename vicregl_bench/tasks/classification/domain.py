"""What linear classification does in a run: its data, models and scores."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from vicregl_bench.backbones.frozen import FrozenTrunk
from vicregl_bench.data import ClassificationData, Labelled, read_classification
from vicregl_bench.errors import DataError
from vicregl_bench.heads.sweep import HeadSpec
from vicregl_bench.tasks.classification.dataset import preprocessor, test_loader, train_loader
from vicregl_bench.tasks.classification.frozen_classifier import (
    FrozenSweepClassifier,
    build_classifier_sweep,
    input_widths,
)
from vicregl_bench.tasks.classification.metric import RankMetric
from vicregl_bench.tasks.classification.outcome import LabelRanks
from vicregl_bench.tasks.classification.settings import ClassificationSettings, CropSection
from vicregl_bench.tasks.domain import Config, Domain, TrainedDomain
from vicregl_bench.tasks.outcome import Outcome
from vicregl_bench.tasks.request import RunRequest

_TEST_BATCH = 64


class WholePictures(Domain[ClassificationData]):
    """One class a picture: its data set, its accuracy, and ranks that are kept of it.

    The metric is top-1 unless the settings name another (`data.metric`).

    Raises:
        DataError: all training pictures are of one class, so that every answer is the same.
    """

    metric = "top1"
    outcome = LabelRanks
    keeps = False

    def __init__(self, request: RunRequest) -> None:
        super().__init__(request)
        data = self.settings.data
        if isinstance(data, CropSection) and data.metric is not None:
            self.metric = data.metric
        self.dataset = read_classification(data.dataset, request.data_root, data.variant)
        if len({picture.label for picture in self.dataset.train}) < 2:
            raise DataError(
                f"all training pictures of {self.dataset.root} are of one class: there is nothing "
                "to tell apart"
            )

    def save_kept(
        self,
        path: Path,
        pictures: Sequence[Labelled],
        outcome: Outcome,
        head: int,
        kept: Mapping[str, Any],
    ) -> list[str]:
        """Nothing is kept of single pictures but their ranks."""
        return []


class Classification(WholePictures, TrainedDomain[ClassificationData]):
    """Linear classifiers on a frozen backbone, trained on random crops.

    Raises:
        ConfigError: the backbone has no such input as the settings name.
    """

    scope = "mmengine"

    def __init__(self, request: RunRequest) -> None:
        super().__init__(request)
        input_widths(self.settings, self.source.architecture)

    @property
    def settings(self) -> ClassificationSettings:
        """Of the task."""
        settings = self.request.task.settings
        assert isinstance(settings, ClassificationSettings)
        return settings

    def train_loader(self, pictures: Sequence[Labelled], *, workers: int) -> Config:
        """Mmengine's configuration of an endless loader of training batches."""
        return train_loader(
            pictures,
            self.settings.data,
            batch_size=self.settings.schedule.batch_size,
            seed=self.settings.sweep.run_seed,
            workers=workers,
        )

    def test_loader(self, pictures: Sequence[Labelled], *, workers: int) -> Config:
        """Mmengine's configuration of a loader of central crops, or of views."""
        return test_loader(pictures, self.settings.data, batch_size=_TEST_BATCH, workers=workers)

    def evaluation(self, pictures: Sequence[Labelled], keep: Collection[Any] = ()) -> RankMetric:
        """An mmengine metric over pictures."""
        return RankMetric(pictures, len(self.dataset.classes), self.metric)

    def sweep_model(self, trunk: FrozenTrunk) -> FrozenSweepClassifier:
        """All heads of the grid on a frozen trunk."""
        return FrozenSweepClassifier(
            trunk,
            build_classifier_sweep(
                self.settings, self.source.architecture, len(self.dataset.classes)
            ),
            preprocessor(self.source.card),
        )

    def trained_model(self, head: HeadSpec) -> Any:
        """No task of classification trains the backbone."""
        raise AssertionError("classification is frozen")
