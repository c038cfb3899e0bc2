"""What a probe's tests compute without it: features, and the ranks that a peer's scores mean."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from vicregl_bench.backbones.frozen import FrozenTrunk
from vicregl_bench.data import Labelled
from vicregl_bench.features.extractor import CentralCrop, Extractor
from vicregl_bench.tasks.request import RunRequest

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


def crop_vectors(asked: RunRequest, pictures: Sequence[Labelled]) -> FloatArray:
    """Features (N, D) of central crops of 48 of pictures resized to 56, in full precision."""
    extractor = Extractor(
        asked.source, FrozenTrunk(asked.source.build()), CentralCrop((56, 56), 48)
    )
    crops = [extractor.transform(Image.open(one.image).convert("RGB")) for one in pictures]
    vectors: FloatArray = extractor(torch.stack(crops)).double().numpy()
    return vectors


def possible_ranks(
    scores: FloatArray, labels: Sequence[int], tolerance: float
) -> tuple[IntArray, IntArray]:
    """Least and largest rank (N,) of the true class by scores (N, C), 0 for the highest score.

    They differ where other scores are within the tolerance of the true class's.
    """
    own = scores[np.arange(len(labels)), labels][:, None]
    return (scores > own + tolerance).sum(axis=1), (scores >= own - tolerance).sum(axis=1) - 1
