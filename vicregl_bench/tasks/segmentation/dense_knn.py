"""Segmentation by the nearest training patches, without training: every k on one search."""

from collections.abc import Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vicregl_bench.data import Pair, SegmentationData
from vicregl_bench.errors import ConfigError, RecordError
from vicregl_bench.features.dense_bank import (
    Annotated,
    DenseBank,
    batches_of,
    build_bank,
    weighted_labels,
)
from vicregl_bench.features.extractor import CentralCrop, Extractor, load_crops
from vicregl_bench.features.knn import nearest_rows
from vicregl_bench.heads.interpolation import resize_matrix
from vicregl_bench.heads.sweep import HeadSpec
from vicregl_bench.records.arrays import read_arrays, write_arrays
from vicregl_bench.tasks.measured import Scores
from vicregl_bench.tasks.probing import ProbeDomain, Probing
from vicregl_bench.tasks.request import RunRequest
from vicregl_bench.tasks.segmentation.dense_knn_settings import DenseKnnSettings
from vicregl_bench.tasks.segmentation.domain import LabelMaps
from vicregl_bench.tasks.segmentation.metric import SweepIoUMetric
from vicregl_bench.tasks.segmentation.outcome import PictureAreas

_BAND = 2**25  # elements of upsampled votes at a time: 128 MiB
_KEPT = "kept/"

Kept = Mapping[str, npt.NDArray[np.uint8]]
"""Name of a picture -> its label maps (K, H, W)."""


@dataclass(frozen=True)
class _Part:
    """Some val pictures, scored."""

    areas: PictureAreas
    kept: Kept


class DenseKnn(LabelMaps, ProbeDomain[SegmentationData]):
    """Labels of patches by their nearest ones in a memory of training patches.

    Raises:
        ConfigError: a memory that has no place for a patch of every training picture, or pictures
            whose side is no multiple of the map's stride: labels would be of other pixels. (ViTs
            resize such pictures to whole patches.)
    """

    keeps = True

    def __init__(self, request: RunRequest) -> None:
        super().__init__(request)
        side, architecture = self.settings.data.side, self.source.architecture
        stride = self.settings.backbone.output_stride or architecture.strides[-1]
        if side % stride and architecture.family != "vit":
            raise ConfigError(
                f"pictures of {side} px are no whole patches of {stride} px: "
                f"--set data.side={-(-side // stride) * stride} is the next multiple"
            )
        self._patches = (-(-side // stride)) ** 2
        size, there = self.settings.memory.size, len(self.dataset.train)
        if size < there:
            raise ConfigError(
                f"a memory of {size:,} vectors has no place for {there:,} training pictures: "
                f"--set memory.size={100 * there} takes 100 of each"
            )

    @property
    def settings(self) -> DenseKnnSettings:
        """Of the task."""
        settings = self.request.task.settings
        assert isinstance(settings, DenseKnnSettings)
        return settings

    def heads(self) -> tuple[HeadSpec, ...]:
        """One a number of neighbours."""
        return tuple(HeadSpec(None, 0, (("k", k),)) for k in self.settings.knn.ks)

    def probe(self, probing: Probing) -> Scores:
        """Scores by every k; the memory and what is scored are kept until the run is complete.

        Raises:
            RunInterruptedError: asked to stop.
            ConfigError: more neighbours than labelled patches in the memory.
        """
        settings = self.settings
        side = settings.data.side
        extractor = Extractor(
            self.source,
            probing.trunk,
            CentralCrop((side, side), side),
            settings.backbone.output_stride,
        )
        bank = build_bank(
            probing.points / "memory",
            Annotated(
                [pair.image for pair in probing.train],
                lambda index: self.dataset.read_labels(probing.train[index]),
                len(self.dataset.classes),
            ),
            extractor.last_map,
            extractor.transform,
            per_picture=settings.memory.size // len(probing.train),
            seed=settings.sweep.run_seed,
            identity=extractor.identity(),
            workers=probing.workers,
            warn=probing.reporter.warn,
            on_progress=probing.reporter.stage("memory", len(probing.train)),
            check_stop=probing.check_stop,
        )
        most = max(settings.knn.ks)
        if most > bank.shape[0]:
            raise ConfigError(
                f"{most} neighbours are impossible: the memory has {bank.shape[0]:,} labelled "
                f"patches; --set knn.ks={min(5, bank.shape[0])} chooses another"
            )
        held = None
        if probing.holdout:
            held = self._scored(probing, extractor, bank, probing.holdout, "holdout").areas
        val = self._scored(probing, extractor, bank, probing.val, "val")
        kept = tuple(
            {name: labels[k] for name, labels in val.kept.items()}
            for k in range(len(settings.knn.ks))
        )
        return Scores(val.areas, held, kept)

    def _scored(
        self,
        probing: Probing,
        extractor: Extractor,
        bank: DenseBank,
        pictures: Sequence[Pair],
        name: str,
    ) -> _Part:
        """Score pictures in groups of about `search.queries` patches; each group is kept."""
        settings, total = self.settings, len(pictures)
        size = max(1, settings.search.queries // self._patches)
        groups = [range(first, min(total, first + size)) for first in range(0, total, size)]
        paths = [probing.points / f"{name}-{group.start:06d}.npz" for group in groups]
        found = [_read_part(path, len(group)) for path, group in zip(paths, groups, strict=True)]
        missing = [group for group, one in zip(groups, found, strict=True) if one is None]
        update = probing.reporter.stage(f"scoring {name}", total)
        parts: list[_Part] = []
        with closing(
            load_crops(
                [pair.image for pair in pictures],
                [batch for group in missing for batch in batches_of(group)],
                extractor.transform,
                workers=probing.workers,
            )
        ) as crops:
            for path, group, one in zip(paths, groups, found, strict=True):
                if one is None:
                    maps = []
                    for _ in batches_of(group):
                        probing.check_stop()
                        maps.append(extractor.last_map(next(crops)))
                    own = [pictures[index] for index in group]
                    one = self._part(probing, bank, torch.cat(maps), own)
                    _write_part(path, one)
                parts.append(one)
                update(group.stop)
        return _together(parts)

    def _part(
        self, probing: Probing, bank: DenseBank, maps: Tensor, pictures: Sequence[Pair]
    ) -> _Part:
        """Label maps of pictures against their annotations, of maps (B, D, h, w)."""
        settings = self.settings
        grid = (maps.shape[2], maps.shape[3])
        similarities, indices = nearest_rows(
            bank,
            maps.flatten(2).transpose(1, 2).flatten(0, 1),
            max(settings.knn.ks),
            device=probing.device,
            query_chunk=settings.search.queries,
            bank_chunk=settings.search.vectors,
            check_stop=probing.check_stop,
        )
        votes = weighted_labels(
            similarities, indices, bank.labels, settings.knn.ks, settings.knn.temperature
        ).view(len(settings.knn.ks), len(pictures), *grid, -1)
        metric = SweepIoUMetric(keep=[str(pair.image) for pair in pictures if pair in probing.keep])
        metric.dataset_meta = {"classes": self.dataset.classes}
        for index, pair in enumerate(pictures):
            labels = torch.from_numpy(self.dataset.read_labels(pair))
            predicted = torch.stack(
                [
                    label_map(one[index].permute(2, 0, 1), settings.data.side, labels.shape)
                    for one in votes
                ]
            )
            sample = {
                "img_path": str(pair.image),
                "pred_sem_seg": {"data": predicted},
                "gt_sem_seg": {"data": labels[None]},
            }
            metric.process(None, [sample])
        metric.compute_metrics(metric.results)
        assert metric.outcome is not None
        kept = metric.kept
        names = kept[0] if kept else ()
        return _Part(
            metric.outcome, {name: np.stack([one[name] for one in kept]) for name in names}
        )


def label_map(votes: Tensor, side: int, size: Sequence[int]) -> Tensor:
    """Labels (H, W), int64, of the largest vote, upsampled to the square and on to a picture.

    Both resizings are bilinear, as mmseg's of logits; a band of rows is in memory at a time.

    Args:
        votes: (C, h, w) label distributions.
        side: of the square that the picture was resized to.
        size: (H, W) of the annotation.
    """
    classes, h, w = votes.shape
    height, width = size
    down, across = resize_matrix(h, side, height), resize_matrix(w, side, width)
    wide = votes @ across.T
    step = max(1, _BAND // (classes * width))
    bands = [
        torch.matmul(down[first : first + step], wide).max(dim=0).indices
        for first in range(0, height, step)
    ]
    return torch.cat(bands)


def _together(parts: Sequence[_Part]) -> _Part:
    """Parts in the order of their pictures as one."""
    areas = [part.areas for part in parts]
    return _Part(
        PictureAreas(
            names=tuple(name for one in areas for name in one.names),
            intersect=np.concatenate([one.intersect for one in areas]),
            predicted=np.concatenate([one.predicted for one in areas]),
            labelled=np.concatenate([one.labelled for one in areas]),
        ),
        {name: labels for part in parts for name, labels in part.kept.items()},
    )


def _write_part(path: Path, part: _Part) -> None:
    kept: dict[str, Any] = {f"{_KEPT}{name}": labels for name, labels in part.kept.items()}
    write_arrays(path, part.areas.to_arrays() | kept)


def _read_part(path: Path, pictures: int) -> _Part | None:
    """What was kept of some pictures; None where that is nothing, or not whole."""
    with suppress(FileNotFoundError, RecordError, KeyError):
        arrays = read_arrays(path)
        areas = PictureAreas.from_arrays(arrays)
        if len(areas.names) == pictures:
            kept = {
                name.removeprefix(_KEPT): labels
                for name, labels in arrays.items()
                if name.startswith(_KEPT)
            }
            return _Part(areas, kept)
    return None
