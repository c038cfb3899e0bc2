"""What detection does in a run: its data, models, scores and kept boxes."""

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from vicregl_bench.backbones.frozen import FrozenTrunk
from vicregl_bench.data import DetectionData, Picture, read_detection
from vicregl_bench.heads.sweep import HeadSpec
from vicregl_bench.records.detections import KeptDetections, save_detections
from vicregl_bench.records.predictions import image_below
from vicregl_bench.tasks.detection.dataset import preprocessor, test_loader, train_loader
from vicregl_bench.tasks.detection.evaluation import SweepDetectionMetric
from vicregl_bench.tasks.detection.frozen_detector import (
    FrozenSweepDetector,
    build_detection_sweep,
)
from vicregl_bench.tasks.detection.metric import Detections, GroundTruth
from vicregl_bench.tasks.detection.outcome import DetectionOutcome
from vicregl_bench.tasks.detection.precise_bn import precise_bn
from vicregl_bench.tasks.detection.settings import DetectionSettings
from vicregl_bench.tasks.detection.trained_detector import build_trained, is_finite
from vicregl_bench.tasks.domain import Config, Stage, TrainedDomain
from vicregl_bench.tasks.outcome import Outcome
from vicregl_bench.tasks.request import RunRequest


class Detection(TrainedDomain[DetectionData]):
    """Average precision of boxes."""

    metric = "ap"
    scope = "mmdet"
    outcome = DetectionOutcome

    def __init__(self, request: RunRequest) -> None:
        super().__init__(request)
        data = self.settings.data
        self.dataset = read_detection(data.dataset, request.data_root, data.variant)
        self.masks = request.task.info.kind == "detection_mask_rcnn_finetuned"

    @property
    def settings(self) -> DetectionSettings:
        """Of the task."""
        settings = self.request.task.settings
        assert isinstance(settings, DetectionSettings)
        return settings

    def train_loader(self, pictures: Sequence[Picture], *, workers: int) -> Config:
        """Mmengine's configuration of an endless loader of training batches."""
        return train_loader(
            self.dataset,
            pictures,
            self.settings.data,
            batch_size=self.settings.schedule.batch_size,
            seed=self.settings.sweep.run_seed,
            workers=workers,
            masks=self.masks,
        )

    def test_loader(self, pictures: Sequence[Picture], *, workers: int) -> Config:
        """Mmengine's configuration of a loader of pictures to score, one at a time."""
        return test_loader(self.dataset, pictures, self.settings.data, workers=workers)

    def evaluation(
        self, pictures: Sequence[Picture], keep: Collection[Picture] = ()
    ) -> SweepDetectionMetric:
        """An mmengine metric over pictures; the boxes of all of them are in its outcome."""
        return SweepDetectionMetric(self.dataset, pictures, masks=self.masks)

    def sweep_model(self, trunk: FrozenTrunk) -> FrozenSweepDetector:
        """All heads of the grid on a frozen trunk."""
        architecture = self.source.architecture
        # strided layers of the others drop what does not fill a cell
        divisor = 1 if architecture.family == "resnet" else max(architecture.strides)
        return FrozenSweepDetector(
            trunk,
            build_detection_sweep(self.settings, architecture),
            preprocessor(self.source.card, divisor=divisor),
            architecture=architecture,
        )

    def trained_model(self, head: HeadSpec) -> Any:
        """New layers and the whole backbone."""
        return build_trained(self.settings, self.source, masks=self.masks, head_seed=head.seed)

    def before_scoring(self, model: nn.Module, loader: Callable[[], Any], stage: Stage) -> None:
        """Precise BatchNorm, where the protocol has it; a model that broke says so."""
        iterations = self.settings.precise_bn
        if iterations is not None and not self.request.task.info.frozen and is_finite(model):
            # regions are drawn in it: as after the last iteration, where the run is resumed too
            model.seed_step()  # type: ignore[operator]
            precise_bn(model, loader(), iterations, report=stage("precise BatchNorm", iterations))
        if not self.request.task.info.frozen and not is_finite(model):
            model.mark_broken()  # type: ignore[operator]

    def save_kept(
        self,
        path: Path,
        pictures: Sequence[Picture],
        outcome: Outcome,
        head: int,
        kept: Mapping[str, Any],
    ) -> list[str]:
        """Write one head's boxes beside the truth; there are some of every picture."""
        assert isinstance(outcome, DetectionOutcome)
        index = {name: i for i, name in enumerate(outcome.names)}
        made = [
            self._kept(picture, outcome.truth[i], outcome.found[head][i])
            for picture in pictures
            for i in [index[picture.name]]
        ]
        save_detections(path, made, self.dataset.classes)
        return []

    def _kept(self, picture: Picture, truth: GroundTruth, found: Detections) -> KeptDetections:
        annotations = self.dataset.annotations(picture)
        return KeptDetections(
            image=image_below(picture.image, self.request.data_root),
            size=(annotations.height, annotations.width),
            truth_boxes=truth.boxes,
            truth_labels=truth.labels,
            ignored=truth.ignore,
            boxes=found.boxes,
            scores=found.scores,
            labels=found.labels,
        )
