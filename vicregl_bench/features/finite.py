"""Features that are numbers."""

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from vicregl_bench.errors import CheckpointError


def require_finite(features: Tensor, images: Sequence[Path]) -> None:
    """Stop on features that are not finite.

    Args:
        features: (N, ...), of N pictures.
        images: their files.

    Raises:
        CheckpointError: names the first picture that has such.
    """
    finite = features.flatten(1).isfinite().all(dim=1).tolist()
    for image, fine in zip(images, finite, strict=True):
        if not fine:
            raise CheckpointError(
                f"the backbone gives features of {image} that are not finite: look at its weights "
                "and their preprocessing, and at --precision"
            )
