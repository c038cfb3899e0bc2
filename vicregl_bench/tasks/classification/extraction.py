"""The features that a probe of whole pictures reads: its crops, or the means of several views."""

from typing import Any

from vicregl_bench.features.extractor import CentralCrop, Extractor
from vicregl_bench.tasks.classification.dataset import test_transform
from vicregl_bench.tasks.classification.settings import ViewsSection
from vicregl_bench.tasks.domain import Data, Domain
from vicregl_bench.tasks.probing import ProbeDomain, Probing

TRAIN, HELD, VAL = "features of train", "features of the held-out slice", "features of val"
"""Stages of progress."""


def extractor_of(domain: Domain[Any], probing: Probing, *, train: bool = False) -> Extractor:
    """What gives a probe's features, by its settings.

    Args:
        domain: of a task whose `settings.data` is a `ViewsSection`.
        probing: with the trunk.
        train: of pictures to learn from, of which there is the central crop alone: `data.views` are
            those of pictures to be scored ("Scaling", seed 002: augmentation in test).
    """
    settings = domain.settings
    assert isinstance(settings.data, ViewsSection)
    data = settings.data
    transform = CentralCrop(data.resize, data.crop) if train else test_transform(data)
    return Extractor(domain.source, probing.trunk, transform, settings.backbone.output_stride)


class VectorProbe(ProbeDomain[Data]):
    """A probe that reads one vector a picture: of train, of the held-out slice and of val."""

    shares = True

    def share(self, probing: Probing) -> None:
        """Compute all of them.

        Raises:
            RunInterruptedError: asked to stop.
        """
        probing.features(extractor_of(self, probing, train=True), probing.train, TRAIN)
        scored = extractor_of(self, probing)
        if probing.holdout:
            probing.features(scored, probing.holdout, HELD)
        probing.features(scored, probing.val, VAL)
