"""Classification by the nearest training pictures, under cosine similarity.

Votes are uniform, or exp(similarity / T) (Wu et al. 2018, 1805.01978, as DINO has it with T = 0.07,
2104.14294). VICReg's table 8 (2105.04906, 20 and 200 neighbours) names neither; "Following recent
protocols" cites work that weights.

Of the training pictures with equal similarity the one that comes first is nearer. Of the classes
with equal votes, that with the larger sum of similarities goes before, then the smaller one. A
class without a neighbour is never predicted (`predict`) and ranks last (`ranks`), which of five
classes or fewer is still within the top 5; peers give it a place by its number.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from vicregl_bench.errors import CheckpointError, ConfigError

# Rows at a time: similarities of 2,048 x 16,384 take 128 MiB, as 16,384 vectors of 2,048 do.
QUERY_CHUNK, BANK_CHUNK = 2048, 16384
_VOTES = 2**22  # of (pictures, classes) at a time: 32 MiB
# Lengths between which squares of the elements that matter are well within float32's range.
_SHORT, _LONG = 1e-12, 1e18
TOP = 5


class Rows(Protocol):
    """Vectors (N, D): a tensor, or `shards.Features`, which reads slices from disk."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, D)."""

    def __getitem__(self, rows: slice, /) -> Tensor:
        """Some of them."""


@dataclass(frozen=True, eq=False)
class Neighbours:
    """The k nearest training pictures of each of N, nearest first.

    Attributes:
        similarities: (N, k) float32, cosines.
        labels: (N, k) classes.
    """

    similarities: Tensor
    labels: Tensor

    def predict(
        self, ks: Sequence[int], *, temperature: float | None = None, top: int = TOP
    ) -> Tensor:
        """The best classes (len(ks), N, top) of every picture, best first, by each k.

        -1 stands where fewer than `top` classes have a neighbour.

        Raises:
            ConfigError: a k or temperature that is impossible.
        """
        classes = 1 + int(self.labels.max()) if len(self.labels) else 0
        out = torch.full((len(ks), len(self.labels), top), -1)
        for index, rows, votes, sums in self._votes(ks, classes, temperature):
            left = votes.clone()
            for place in range(min(top, classes)):
                most = left.amax(dim=1, keepdim=True)
                tied = torch.where(left == most, sums, -torch.inf)
                # argmax may give any of several: the first is wanted
                first = (tied == tied.amax(dim=1, keepdim=True)).int().argmax(dim=1)
                found = most[:, 0] >= 0
                out[index, rows, place] = torch.where(found, first, -1)
                left.scatter_(1, first[:, None], -1.0)
        return out

    def ranks(
        self,
        labels: Tensor,
        ks: Sequence[int],
        *,
        classes: int,
        temperature: float | None = None,
    ) -> Tensor:
        """Ranks (len(ks), N) of the true classes, 0 for the class predicted.

        A class without a neighbour is the last, `classes` - 1.

        Args:
            labels: (N,) true classes.
            ks: neighbours that vote.
            classes: C.
            temperature: None for uniform votes.

        Raises:
            ConfigError: a k or temperature that is impossible.
        """
        out = torch.empty(len(ks), len(self.labels), dtype=torch.long)
        order = torch.arange(classes)
        for index, rows, votes, sums in self._votes(ks, classes, temperature):
            own = labels[rows].cpu().long()[:, None]
            own_votes, own_sums = votes.gather(1, own), sums.gather(1, own)
            tied = (votes == own_votes) & ((sums > own_sums) | ((sums == own_sums) & (order < own)))
            ranks = ((votes > own_votes) | tied).sum(dim=1)
            out[index, rows] = torch.where(own_votes[:, 0] >= 0, ranks, classes - 1)
        return out

    def _votes(
        self, ks: Sequence[int], classes: int, temperature: float | None
    ) -> Iterator[tuple[int, slice, Tensor, Tensor]]:
        """Index of k, rows, and of these the votes and sums of similarities (B, classes).

        Votes are -1 where a class has no neighbour. In float64 on the CPU, so that their order of
        summation, and with it the result, is always the same.
        """
        most = self.labels.shape[1]
        _require_ks(ks, most, "neighbours that were looked for")
        if temperature is not None and not (math.isfinite(temperature) and temperature > 0):
            raise ConfigError(f"a temperature of {temperature:g} is impossible: it is above 0")
        size = max(1, _VOTES // max(1, classes))
        for first in range(0, len(self.labels), size):
            rows = slice(first, first + size)
            similar, labels = self.similarities[rows].cpu().double(), self.labels[rows].cpu().long()
            weights = torch.ones_like(similar)
            if temperature is not None:
                # a factor a row changes no order; without it small temperatures overflow
                weights = ((similar - similar[:, :1]) / temperature).exp()
            for index, k in enumerate(ks):
                votes, sums, counts = torch.zeros(3, len(labels), classes, dtype=torch.float64)
                near = labels[:, :k]
                votes.scatter_add_(1, near, weights[:, :k])
                sums.scatter_add_(1, near, similar[:, :k])
                counts.scatter_(1, near, 1.0)
                yield index, rows, torch.where(counts > 0, votes, -1.0), sums


def nearest_rows(
    bank: Rows,
    queries: Rows,
    k: int,
    *,
    device: torch.device | str = "cpu",
    query_chunk: int = QUERY_CHUNK,
    bank_chunk: int = BANK_CHUNK,
    check_stop: Callable[[], None] = lambda: None,
) -> tuple[Tensor, Tensor]:
    """The k rows of a bank with the largest cosine similarity to each query, nearest first.

    Exact, in float32. Takes the memory of a chunk of similarities and of vectors, whatever N is.
    Other chunks, or slices of the queries in several processes, give the same but for neighbours
    whose similarities differ by less than float32's rounding.

    Args:
        bank: (N, D), of any lengths.
        queries: (Q, D).
        k: how many.
        device: where similarities are computed.
        query_chunk: queries at a time; all of the bank is read for each.
        bank_chunk: rows of the bank at a time.
        check_stop: called between chunks; raises where the run is to stop.

    Returns:
        Similarities (Q, k) float32 and the rows' indices (Q, k), on the CPU.

    Raises:
        ConfigError: a k below 1 or above N, or vectors of different widths.
        CheckpointError: features that are not finite.
    """
    total, width = bank.shape
    asked_for = queries.shape[0]
    _require_ks([k], total, "vectors")
    if queries.shape[1] != width:
        raise ConfigError(
            f"features of {width} channels and of {queries.shape[1]}: of two backbones?"
        )
    similarities = torch.empty(asked_for, k)
    found = torch.empty(asked_for, k, dtype=torch.long)
    with _exact_products():
        for first in range(0, asked_for, query_chunk):
            rows = slice(first, min(asked_for, first + query_chunk))
            asked = _unit(queries[rows], device)
            best = torch.empty(len(asked), 0, device=device)
            places = torch.empty(len(asked), 0, dtype=torch.long, device=device)
            for begin in range(0, total, bank_chunk):
                check_stop()
                part = _unit(bank[begin : min(total, begin + bank_chunk)], device)
                values, indices = _nearest(asked @ part.T, k)
                merged = torch.cat([best, values], dim=1)
                # stable: those of earlier chunks come first
                merged, kept = merged.sort(dim=1, descending=True, stable=True)
                best = merged[:, :k]
                places = torch.cat([places, indices + begin], dim=1).gather(1, kept[:, :k])
            similarities[rows] = best.cpu()
            found[rows] = places.cpu()
    return similarities, found


def _nearest(similarities: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The largest k of every row, fewer where there are fewer, in the order of their indices.

    Of equal ones at the boundary those of the smaller indices, which `topk` does not promise.
    """
    width = similarities.shape[1]
    k = min(k, width)
    values, indices = similarities.topk(min(k + 1, width), dim=1)
    indices = indices[:, :k]
    if k < width:
        crowded = (values[:, k - 1] == values[:, k]).nonzero()[:, 0]
        if len(crowded):
            ordered = similarities[crowded].sort(dim=1, descending=True, stable=True)
            indices[crowded] = ordered.indices[:, :k]
    indices = indices.sort(dim=1).values
    return similarities.gather(1, indices), indices


def _unit(vectors: Tensor, device: torch.device | str) -> Tensor:
    """Vectors of length 1; one of zeros stays, as in scikit-learn."""
    vectors = vectors.to(device, torch.float32)
    lengths = torch.linalg.vector_norm(vectors, dim=1, keepdim=True)
    if bool(((lengths > _SHORT) & (lengths < _LONG)).all()):
        unit: Tensor = vectors / lengths
        return unit
    largest = vectors.abs().amax(dim=1, keepdim=True)
    if not bool(largest.isfinite().all()):
        raise CheckpointError(
            "features that are not finite: are the backbone's weights sound, and their precision?"
        )
    scaled = vectors / torch.where(largest > 0, largest, 1.0)
    unit = scaled / torch.linalg.vector_norm(scaled, dim=1, keepdim=True).clamp_min(1.0)
    return unit


@contextmanager
def _exact_products() -> Iterator[None]:
    """Float32 means float32: no TF32 or bfloat16 in products."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def _require_ks(ks: Sequence[int], most: int, of_what: str) -> None:
    if not ks:
        raise ConfigError("no number of neighbours is given")
    for k in ks:
        if not 1 <= k <= most:
            raise ConfigError(f"{k} neighbours are impossible: there are {most:,} {of_what}")
