"""Each weight of a backbone beside the same weight freshly initialised."""

from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from vicregl_bench.backbones.source import BackboneSource
from vicregl_bench.backbones.zoo import random_state

DEAD = 1e-3
"""An output whose weights are this much smaller than the layer's median output counts as dead."""

_FRESH = 0.05
"""Relative difference in standard deviation below which a large layer may be untrained."""

_LARGE = 1024


@dataclass(frozen=True)
class LayerStatistics:
    """One weight.

    Attributes:
        key: of the state dict.
        shape: of the tensor.
        std: standard deviation of its values.
        fresh_std: the same, freshly initialised; 0 where initialisation is constant.
        kurtosis: fourth standardised moment: 3 of normal and 1.8 of uniform initialisation, larger
            in trained layers, whose few large weights carry much.
        fresh_kurtosis: the same, freshly initialised; 0 where initialisation is constant.
        dead: share of outputs whose norm is below `DEAD` of the median output's.
    """

    key: str
    shape: tuple[int, ...]
    std: float
    fresh_std: float
    kurtosis: float
    fresh_kurtosis: float
    dead: float

    @property
    def fresh(self) -> bool:
        """Whether the values are distributed as initialisation leaves them."""
        return (
            self.fresh_std > 0
            and abs(self.std / self.fresh_std - 1) < _FRESH
            and abs(self.kurtosis - self.fresh_kurtosis) < _FRESH * self.fresh_kurtosis
        )

    def to_dict(self) -> dict[str, object]:
        """Return the row as plain JSON values."""
        row = asdict(self) | {"shape": list(self.shape)}
        return {
            key: float(f"{value:.4g}") if isinstance(value, float) else value
            for key, value in row.items()
        }


def _kurtosis(values: Tensor, std: float) -> float:
    if std == 0:
        return 0.0
    return float(((values - values.mean()) / std).pow(4).mean())


def layer_statistics(source: BackboneSource) -> list[LayerStatistics]:
    """Statistics of every weight of two and more dimensions, in the order of the state dict."""
    fresh = random_state(source.arch, seed=0)
    rows: list[LayerStatistics] = []
    for key, value in source.state_dict.items():
        if value.ndim < 2:
            continue
        norms = torch.linalg.vector_norm(value.flatten(1), dim=1)
        std, fresh_std = (float(weights.std(unbiased=False)) for weights in (value, fresh[key]))
        rows.append(
            LayerStatistics(
                key=key,
                shape=tuple(value.shape),
                std=std,
                fresh_std=fresh_std,
                kurtosis=_kurtosis(value, std),
                fresh_kurtosis=_kurtosis(fresh[key], fresh_std),
                dead=float((norms <= DEAD * norms.median()).float().mean()),
            )
        )
    return rows


def constant(rows: list[LayerStatistics]) -> tuple[str, ...]:
    """Keys of the weights whose values are all the same."""
    return tuple(row.key for row in rows if row.std == 0 and torch.Size(row.shape).numel() > 1)


def untrained(rows: list[LayerStatistics]) -> tuple[str, ...]:
    """Keys of the large weights that look as initialisation leaves them."""
    return tuple(row.key for row in rows if row.fresh and torch.Size(row.shape).numel() >= _LARGE)
