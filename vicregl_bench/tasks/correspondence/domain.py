"""What correspondence does in a run: views of val pictures, their maps, and matches of cells."""

import math
from collections.abc import Mapping, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vicregl_bench.data import Labelled, MultiLabelled
from vicregl_bench.errors import ConfigError
from vicregl_bench.features.extractor import normalised
from vicregl_bench.features.finite import require_finite
from vicregl_bench.heads.sweep import HeadSpec
from vicregl_bench.records.matches import KeptMatches, save_matches
from vicregl_bench.records.predictions import image_below
from vicregl_bench.tasks.correspondence.data import Pictures, read_pictures
from vicregl_bench.tasks.correspondence.matched import MatchedViews
from vicregl_bench.tasks.correspondence.matching import match_cells
from vicregl_bench.tasks.correspondence.outcome import MatchShares
from vicregl_bench.tasks.correspondence.settings import CorrespondenceSettings
from vicregl_bench.tasks.correspondence.views import PairsOfViews, load_views
from vicregl_bench.tasks.measured import Scores, join_scores
from vicregl_bench.tasks.outcome import Outcome
from vicregl_bench.tasks.probing import ProbeDomain, Probing
from vicregl_bench.tasks.request import RunRequest

_BATCH = 64  # views a forward, about
_KEPT = ("views", "matches", "grid", "scores")


class Correspondence(ProbeDomain[Any]):
    """Cells of the trunk's last map, matched between two views (gl-sd, section 4.7).

    Maps are those that dense tasks read: of ViTs and Swins raw but where the card has
    `output_norm`.

    Raises:
        ConfigError: `--select holdout`, or views whose side is no multiple of the map's stride, or
            is the stride.
    """

    metric = "match_accuracy"
    outcome = MatchShares
    keeps = True

    def __init__(self, request: RunRequest) -> None:
        super().__init__(request)
        settings = self.settings
        if request.select == "holdout":
            raise ConfigError("correspondence chooses nothing: leave out --select holdout")
        stride = settings.backbone.output_stride or self.source.architecture.strides[-1]
        if settings.views.size % stride:
            raise ConfigError(
                f"views of {settings.views.size} px are no whole cells of {stride} px: "
                "set views.size to a multiple"
            )
        if settings.views.size == stride:
            raise ConfigError(
                f"views of {stride} px have one cell, which every match finds: "
                f"set views.size to {2 * stride} at least"
            )
        data = settings.data
        self.dataset: Pictures = read_pictures(data.dataset, request.data_root, data.variant)

    @property
    def settings(self) -> CorrespondenceSettings:
        """Of the task."""
        settings = self.request.task.settings
        assert isinstance(settings, CorrespondenceSettings)
        return settings

    def heads(self) -> tuple[HeadSpec, ...]:
        """One a draw of all views."""
        return tuple(HeadSpec(None, seed) for seed in range(self.settings.sweep.seeds))

    def probe(self, probing: Probing) -> Scores:
        """Scores of every draw.

        Raises:
            RunInterruptedError: asked to stop; whole draws stay.
            DataError: a picture cannot be read.
            CheckpointError: features that are not finite.
        """
        return join_scores(
            self.outcome,
            [probing.point(head, partial(self._draw, probing, head)) for head in self.heads()],
        )

    def save_kept(
        self,
        path: Path,
        pictures: Sequence[Labelled | MultiLabelled],
        outcome: Outcome,
        head: int,
        kept: Mapping[str, Any],
    ) -> list[str]:
        """Keep the views and best matches of some pictures' first pairs."""
        there = [one for one in pictures if f"matches/{one.name}" in kept]
        matches = [self._kept(one, kept) for one in there]
        if matches:
            save_matches(path, matches)
        return [one.name for one in pictures if one not in there]

    def _kept(self, picture: Labelled | MultiLabelled, kept: Mapping[str, Any]) -> KeptMatches:
        views, matches, grid, scores = (kept[f"{what}/{picture.name}"] for what in _KEPT)
        return KeptMatches(
            image=image_below(picture.image, self.request.data_root),
            views=views,
            grid=(int(grid[0]), int(grid[1])),
            cells=matches[:, :3].astype(np.int32),
            similarity=matches[:, 3].astype(np.float32),
            accuracy=float(scores[0]),
            error=float(scores[1]),
        )

    def _draw(self, probing: Probing, head: HeadSpec) -> Scores:
        """Match all pairs of one draw of the views."""
        settings, val = self.settings, probing.val
        keep = {one.name for one in probing.keep}
        draw = PairsOfViews(settings.views, settings.sweep.run_seed, head.seed)
        size = max(1, _BATCH // (2 * settings.views.pairs))
        batches = [range(at, min(len(val), at + size)) for at in range(0, len(val), size)]
        update = probing.reporter.stage(f"matches, seed {head.seed}", len(val))
        scores: list[Tensor] = []
        kept: dict[str, Any] = {}
        cells = 0
        loaded = load_views([one.image for one in val], batches, draw, workers=probing.workers)
        with closing(loaded):
            for batch in batches:
                probing.check_stop()
                pictures = [val[at] for at in batch]
                matched = self._match(probing, *next(loaded), pictures)
                scores.append(matched.scores())
                cells = math.prod(matched.grid)
                for place, name in enumerate(one.name for one in pictures):
                    if name in keep:
                        kept |= {f"{k}/{name}": array for k, array in matched.kept(place).items()}
                update(batch.stop)
        right, error, mirrored = torch.cat(scores).T[..., None].contiguous().numpy()
        outcome = MatchShares(
            names=tuple(one.name for one in val),
            labels=np.array([getattr(one, "label", 0) for one in val], dtype=np.int64),
            right=right,
            error=error,
            mirrored=mirrored,
            cells=cells,
            classes=len(self.dataset.classes),
        )
        return Scores(outcome, kept=(kept,))

    def _match(
        self,
        probing: Probing,
        pixels: Tensor,
        flipped: Tensor,
        pictures: Sequence[Labelled | MultiLabelled],
    ) -> MatchedViews:
        """Match the cells of all pairs of views of some pictures, as `load_views` gives them."""
        mirrored = flipped[..., 0] != flipped[..., 1]
        first, second = self._maps(probing, pixels, pictures)
        found = match_cells(first, second, mirrored.flatten().to(first.device))
        return MatchedViews(pixels, mirrored, found, (first.shape[-2], first.shape[-1]))

    def _maps(
        self, probing: Probing, pixels: Tensor, pictures: Sequence[Labelled | MultiLabelled]
    ) -> tuple[Tensor, Tensor]:
        """Last maps (B * pairs, C, rows, columns) of the first and of the second views.

        Raises:
            CheckpointError: they are not finite.
        """
        images = normalised(pixels.flatten(0, 2), self.source.card, probing.device)
        maps = probing.trunk(images)[-1]
        require_finite(maps.reshape(len(pictures), -1), [picture.image for picture in pictures])
        return maps[0::2], maps[1::2]
