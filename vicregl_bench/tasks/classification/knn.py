"""Classification by nearest neighbours: every k of the grid on one search."""

from collections.abc import Sequence

import torch
from torch import Tensor

from vicregl_bench.data import ClassificationData, Labelled
from vicregl_bench.errors import ConfigError
from vicregl_bench.features.knn import Neighbours
from vicregl_bench.features.neighbour_files import search_together
from vicregl_bench.heads.sweep import HeadSpec
from vicregl_bench.tasks.classification.domain import WholePictures
from vicregl_bench.tasks.classification.extraction import (
    HELD,
    TRAIN,
    VAL,
    VectorProbe,
    extractor_of,
)
from vicregl_bench.tasks.classification.outcome import LabelRanks
from vicregl_bench.tasks.classification.settings import KnnSettings
from vicregl_bench.tasks.measured import Scores
from vicregl_bench.tasks.probing import Probing
from vicregl_bench.tasks.request import RunRequest


class Knn(WholePictures, VectorProbe[ClassificationData]):
    """kNN classification on features of central crops, or of views.

    Raises:
        ConfigError: more neighbours than there are training pictures.
    """

    def __init__(self, request: RunRequest) -> None:
        super().__init__(request)
        self._require_neighbours(len(self.dataset.train))

    def _require_neighbours(self, there: int) -> None:
        most = max(self.settings.knn.ks)
        if most > there:
            raise ConfigError(
                f"{most} neighbours of {there} training pictures are impossible: "
                f"--set knn.ks={min(10, there)} chooses another"
            )

    @property
    def settings(self) -> KnnSettings:
        """Of the task."""
        settings = self.request.task.settings
        assert isinstance(settings, KnnSettings)
        return settings

    def heads(self) -> tuple[HeadSpec, ...]:
        """One a number of neighbours."""
        return tuple(HeadSpec(None, 0, (("k", k),)) for k in self.settings.knn.ks)

    def share(self, probing: Probing) -> None:
        """Compute the features and search the neighbours.

        Raises:
            RunInterruptedError: asked to stop.
        """
        self._neighbours(probing)

    def probe(self, probing: Probing) -> Scores:
        """Scores by every k, of one search.

        Raises:
            RunInterruptedError: asked to stop.
        """
        val, held = self._neighbours(probing)
        return Scores(
            self._outcome(val, probing.val),
            None if held is None else self._outcome(held, probing.holdout),
        )

    def _neighbours(self, probing: Probing) -> tuple[Neighbours, Neighbours | None]:
        """Of the val pictures, and of the held-out slice where there is one."""
        self._require_neighbours(len(probing.train))
        learned = extractor_of(self, probing, train=True)
        bank = probing.features(learned, probing.train, TRAIN)
        extractor, labels = extractor_of(self, probing), _labels(probing.train)

        def found(pictures: Sequence[Labelled], stage: str) -> Neighbours:
            similarities, rows = search_together(
                probing.cache.folder,
                bank,
                probing.features(extractor, pictures, stage),
                max(self.settings.knn.ks),
                device=probing.device,
                reporter=probing.reporter,
                check_stop=probing.check_stop,
            )
            return Neighbours(similarities, labels[rows])

        held = found(probing.holdout, HELD) if probing.holdout else None
        return found(probing.val, VAL), held

    def _outcome(self, found: Neighbours, pictures: Sequence[Labelled]) -> LabelRanks:
        knn, labels, classes = self.settings.knn, _labels(pictures), len(self.dataset.classes)
        ranks = found.ranks(labels, knn.ks, classes=classes, temperature=knn.temperature)
        return LabelRanks(
            tuple(picture.name for picture in pictures),
            labels.numpy(),
            ranks.T.numpy(),
            classes,
            self.metric,
        )


def _labels(pictures: Sequence[Labelled]) -> Tensor:
    return torch.tensor([picture.label for picture in pictures])
