"""What mmengine trains: the branches with their criterion, one step at a time."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from mmengine.model import BaseModel
from torch import Tensor, nn

from pretrain.augment import NORMALISATION
from pretrain.contrastive import GlobalLocalLoss
from pretrain.data import normalise
from pretrain.losses import TERMS, VICRegLLoss
from pretrain.model import Branch, Features, JointEmbedding
from pretrain.recipe import Recipe
from pretrain.views import locations
from vicregl_bench.errors import BenchError

_AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}


class DivergedError(BenchError):
    """The criterion or the weights are no longer finite."""


def build_criterion(recipe: Recipe) -> nn.Module:
    """The criterion of a recipe; without any matching it is the global one alone (table 3)."""
    settings = recipe.criterion
    alpha = settings.alpha if settings.matching else 1.0
    if settings.name != "vicregl":
        return GlobalLocalLoss(
            alpha,
            settings.num_matches,
            criterion=settings.name,
            matching=settings.matching or ("location", "feature"),
            temperature=settings.temperature,
            feature_top_gamma=settings.feature_top_gamma is not False,
        )
    return VICRegLLoss(
        alpha,
        settings.num_matches,
        settings.preset,
        settings.invariance,
        settings.variance,
        settings.covariance,
        settings.feature_top_gamma,
        matching=settings.matching,
        local_criterion=settings.local_criterion,
    )


def build_network(recipe: Recipe) -> JointEmbedding:
    """Freshly initialised branches; heads that the criterion does not use are not built."""
    model, criterion = recipe.model, recipe.criterion
    expander = model.expander if criterion.with_global else ()
    projector = model.projector if criterion.with_local else ()
    first = Branch(model.backbone, expander, projector, model.norm)
    second = None
    if model.separate:
        second = Branch(model.second_backbone or model.backbone, expander, projector, model.norm)
    return JointEmbedding(first, second)


@dataclass(frozen=True)
class Watched:
    """Detached features of the first view of the last step, for the collapse watch."""

    representation: Tensor  # (B, C)
    embedding: Tensor | None  # (B, D)


class Trainee(BaseModel):  # type: ignore[misc]
    """The network with its criterion.

    Args:
        recipe: all settings.
        device_type: "cpu" or "cuda", for autocast.
    """

    def __init__(self, recipe: Recipe, device_type: str) -> None:
        super().__init__()
        self.network = build_network(recipe)
        self.criterion = build_criterion(recipe)
        self.recipe = recipe
        self.device_type = device_type
        self.watched: Watched | None = None
        self._mean, self._std = NORMALISATION[recipe.views.normalisation]
        self._sides = recipe.map_sides()

    def forward(
        self,
        large: Tensor,
        small: Tensor | None,
        crops: Tensor,
        unreadable: Any = None,
        mode: str = "loss",
    ) -> dict[str, Tensor]:
        """Terms of the criterion over one batch.

        Args:
            large: (2, B, 3, S, S) uint8.
            small: (N, B, 3, s, s) uint8 or None.
            crops: (2 + N, B, 5), see views.locations.
            unreadable: names, not used here.
            mode: only "loss", as mmengine calls it.
        """
        views = [*large] if small is None else [*large, *small]
        dtype = _AUTOCAST.get(self.recipe.run.precision)
        with torch.autocast(self.device_type, dtype=dtype, enabled=dtype is not None):
            features = self.network(
                [self._arrange(normalise(view, self._mean, self._std)) for view in views]
            )
        first: Features = features[0]
        embedding = None if first.embedding is None else first.embedding.detach()
        self.watched = Watched(first.representation.detach(), embedding)
        flips = self.recipe.views.track_flips
        places = [
            locations(crop, side, track_flips=flips)
            for crop, side in zip(crops, self._sides, strict=True)
        ]
        # in full precision, whatever surrounds the step: Gram matrices overflow half precision
        with torch.autocast(self.device_type, enabled=False):
            terms = self.criterion(
                [f.local.float() for f in features if f.local is not None],
                [f.embedding.float() for f in features if f.embedding is not None],
                places if first.local is not None else [],
            )
        return {"loss": terms.total, **{name: getattr(terms, name) for name in TERMS}}

    def _arrange(self, view: Tensor) -> Tensor:
        return view.contiguous(memory_format=torch.channels_last)

    def train_step(self, data: Any, optim_wrapper: Any) -> dict[str, Tensor]:
        """One step, as mmengine calls it without DDP."""
        return step_of(self, data, optim_wrapper)


def step_of(model: nn.Module, data: Any, optim_wrapper: Any) -> dict[str, Tensor]:
    """Forward, backward and update; no parameter is where the criterion is not finite.

    Args:
        model: a Trainee, bare or inside DDP.
        data: a batch of data.stack.
        optim_wrapper: mmengine's.

    Raises:
        DivergedError: with the terms.
    """
    device = next(model.parameters()).device
    batch = {
        key: value.to(device, non_blocking=True) if isinstance(value, Tensor) else value
        for key, value in data.items()
    }
    with optim_wrapper.optim_context(model):
        terms = model(**batch)
    total = float(terms["loss"].detach())
    if not math.isfinite(total):
        parts = ", ".join(f"{name} {float(value.detach()):.4g}" for name, value in terms.items())
        raise DivergedError(parts)
    optim_wrapper.update_params(terms["loss"])
    return {name: value.detach() for name, value in terms.items()}
