"""What segmentation does in a run: its data, models, scores and kept label maps."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import nn

from vicregl_bench.backbones.frozen import FrozenTrunk
from vicregl_bench.data import Pair, SegmentationData, read_segmentation
from vicregl_bench.heads.sweep import HeadSpec
from vicregl_bench.records.predictions import (
    KeptPrediction,
    image_below,
    picture_name,
    save_predictions,
)
from vicregl_bench.tasks.domain import Config, Domain, TrainedDomain
from vicregl_bench.tasks.outcome import Outcome
from vicregl_bench.tasks.request import RunRequest
from vicregl_bench.tasks.segmentation.dataset import preprocessor, test_loader, train_loader
from vicregl_bench.tasks.segmentation.frozen_segmentor import FrozenSweepSegmentor
from vicregl_bench.tasks.segmentation.metric import SweepIoUMetric
from vicregl_bench.tasks.segmentation.outcome import PictureAreas
from vicregl_bench.tasks.segmentation.settings import SegmentationSettings
from vicregl_bench.tasks.segmentation.sweeps import build_sweep, head_maps
from vicregl_bench.tasks.segmentation.trained_segmentor import TrainedSegmentor, build_trained
from vicregl_bench.tasks.segmentation.views import evaluated


class LabelMaps(Domain[SegmentationData]):
    """mIoU of label maps, and those that are kept."""

    metric = "miou"
    outcome = PictureAreas

    def __init__(self, request: RunRequest) -> None:
        super().__init__(request)
        data = self.settings.data
        self.dataset = read_segmentation(data.dataset, request.data_root, data.variant)

    def pictures(self, outcome: Outcome, best: Sequence[int]) -> dict[str, Any]:
        """Areas of every val picture and head."""
        return outcome.to_arrays()

    def save_kept(
        self,
        path: Path,
        pictures: Sequence[Pair],
        outcome: Outcome,
        head: int,
        kept: Mapping[str, npt.NDArray[np.uint8]],
    ) -> list[str]:
        """Write one head's label maps beside the truth; names of the pictures that have none."""
        there = [pair for pair in pictures if picture_name(pair.image) in kept]
        root = self.request.data_root
        if there:
            save_predictions(
                path,
                [
                    KeptPrediction(
                        image_below(pair.image, root),
                        self.dataset.read_labels(pair),
                        kept[picture_name(pair.image)],
                    )
                    for pair in there
                ],
            )
        return [picture_name(pair.image) for pair in pictures if pair not in there]


class Segmentation(LabelMaps, TrainedDomain[SegmentationData]):
    """Heads or whole backbones trained on label maps."""

    scope = "mmseg"

    @property
    def settings(self) -> SegmentationSettings:
        """Of the task."""
        settings = self.request.task.settings
        assert isinstance(settings, SegmentationSettings)
        return settings

    def train_loader(self, pictures: Sequence[Pair], *, workers: int) -> Config:
        """Mmengine's configuration of an endless loader of training batches."""
        return train_loader(
            self.dataset,
            pictures,
            self.settings.data,
            batch_size=self.settings.schedule.batch_size,
            seed=self.settings.sweep.run_seed,
            workers=workers,
        )

    def test_loader(self, pictures: Sequence[Pair], *, workers: int) -> Config:
        """Mmengine's configuration of a loader of pictures to score, one at a time."""
        settings = self.settings
        return test_loader(
            self.dataset, pictures, settings.data, workers=workers, test=settings.test
        )

    def evaluation(self, pictures: Sequence[Pair], keep: Collection[Pair] = ()) -> SweepIoUMetric:
        """An mmengine metric over pictures; the label maps of some are kept."""
        return SweepIoUMetric(keep=[str(pair.image) for pair in keep])

    def sweep_model(self, trunk: FrozenTrunk) -> FrozenSweepSegmentor:
        """All heads of the grid on a frozen trunk."""
        settings, architecture = self.settings, self.source.architecture
        return FrozenSweepSegmentor(
            trunk,
            build_sweep(settings, architecture),
            preprocessor(settings.data, self.source.card),
            maps=head_maps(settings, architecture),
            slide=settings.slide,
        )

    def trained_model(self, head: HeadSpec) -> TrainedSegmentor:
        """One head and the whole backbone."""
        return build_trained(
            self.settings,
            self.source,
            preprocessor(self.settings.data, self.source.card),
            run_seed=self.settings.sweep.run_seed,
            head_seed=head.seed,
        )

    def tested(self, model: nn.Module) -> nn.Module:
        """The model, or of test-time augmentation the mean over its views."""
        return model if self.request.task.info.frozen else evaluated(model, self.settings.test)
