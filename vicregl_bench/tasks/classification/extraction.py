"""The features that a probe of whole pictures reads: its crops, or the means of several views."""

from typing import Any

from vicregl_bench.features.extractor import CentralCrop, Extractor
from vicregl_bench.tasks.classification.dataset import test_transform
from vicregl_bench.tasks.classification.settings import ViewsSection
from vicregl_bench.tasks.domain import Domain
from vicregl_bench.tasks.probing import Probing


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
