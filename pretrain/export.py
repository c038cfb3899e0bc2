"""What a run leaves: the whole state, the backbone with its card, the released layout.

`backbone.pth` holds `state_dict` (torchvision's or timm's keys, nothing before them) and `card`.
`released.pth` has the layout of VICRegL's full checkpoints: `epoch` and `model`, with DDP's
`module.` before every key; ConvNeXts under their original names (Liu et al. 2022). Beside them it
has the card, since the layout tells neither the method nor the normalisation.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from mmengine.utils import apply_to
from torch import Tensor

from pretrain.augment import NORMALISATION
from pretrain.model import Branch, JointEmbedding, find_backbone
from pretrain.recipe import Recipe, changed_settings, load_recipe
from vicregl_bench.checkpoints.convert import convert_state
from vicregl_bench.checkpoints.methods.own import CARD_FORMAT

MODEL_FORMAT = "vicregl-bench model 1"
_TITLES = {
    "vicregl": "VICRegL",
    "vicreg": "VICReg",
    "simclr": "SimCLR",
    "simclr_l": "SimCLR-L",
    "barlow_twins": "Barlow Twins",
}


def card_of(recipe: Recipe, epochs: float, pictures_sha256: str | None = None) -> dict[str, Any]:
    """The facts about a backbone that no tensor carries, as plain values.

    Args:
        recipe: that it was trained by.
        epochs: of the training.
        pictures_sha256: hash of the list of pictures, told where they are a subset.
    """
    mean, std = NORMALISATION[recipe.views.normalisation]
    criterion = recipe.criterion
    planned = load_recipe(recipe.recipe.name).model_dump(mode="json")
    changed = changed_settings(planned, recipe.model_dump(mode="json"))
    settings = ", ".join(f"{key}={new}" for key, (_, new) in changed.items())
    subset = recipe.data.subset is not None and pictures_sha256 is not None
    return {
        "format": CARD_FORMAT,
        "method": recipe.method,
        "title": _TITLES[recipe.method],
        "arch": find_backbone(recipe.model.backbone).name,
        "source": f"recipe {recipe.recipe.name}: {recipe.recipe.source}",
        "mean": [255.0 * value for value in mean],
        "std": [255.0 * value for value in std],
        "channel_order": "rgb",
        # weights trained with LARS have other norms (VICReg, appendix B.3)
        "detection_preset": "lars" if recipe.optimizer.type == "LARS" else "moco",
        # without matching it is VICReg, whatever alpha
        "alpha": criterion.alpha if criterion.matching else 1.0,
        "epochs": epochs,
        "note": (
            f"{epochs:g} epochs, alpha {criterion.alpha:g}, preset {criterion.preset}, "
            f"views of {recipe.views.large_size} px"
            + (f"; changed: {settings}" if settings else "")
            + (f"; pictures {pictures_sha256}" if subset else "")
        ),
    }


def _plain(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {key: value.detach().cpu().contiguous().clone() for key, value in state.items()}


def backbone_checkpoint(
    branch: Branch, recipe: Recipe, epochs: float, pictures_sha256: str | None = None
) -> dict[str, Any]:
    """Content of backbone.pth."""
    return {
        "card": card_of(recipe, epochs, pictures_sha256),
        "state_dict": _plain(branch.backbone.state_dict()),
    }


def released_checkpoint(
    branch: Branch, recipe: Recipe, epochs: float, pictures_sha256: str | None = None
) -> dict[str, Any]:
    """Content of released.pth: `epoch`, and `model` with the keys of the released training code."""
    family = find_backbone(recipe.model.backbone).family
    named = convert_state(branch.backbone.state_dict(), family, "released")
    state = {f"module.backbone.{key}": value for key, value in named.items()}
    for name, head in (("projector", branch.expander), ("maps_projector", branch.projector)):
        if head is not None:
            state |= {f"module.{name}.{key}": value for key, value in head.state_dict().items()}
    return {
        "epoch": int(epochs),
        "model": _plain(state),
        "card": card_of(recipe, epochs, pictures_sha256),
    }


def save_atomic(content: Any, path: Path) -> None:
    """`torch.save` whole or not at all.

    Raises:
        OSError: as the file system says.
    """
    temporary = path.with_name(f".{path.name}.part")
    try:
        with temporary.open("wb") as stream:
            torch.save(content, stream)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        # closing its archive after a failed write, torch hides the cause behind a RuntimeError
        if isinstance(error, RuntimeError) and isinstance(error.__context__, OSError):
            raise error.__context__ from None
        raise


def export(
    network: JointEmbedding,
    optimizer: Mapping[str, Any],
    recipe: Recipe,
    steps: int,
    out: Path,
    pictures_sha256: str | None = None,
) -> None:
    """Write model.pth, released.pth and backbone.pth; every tensor on the CPU.

    Args:
        network: trained.
        optimizer: its optimiser's state.
        recipe: that it was trained by.
        steps: that were made.
        out: folder.
        pictures_sha256: hash of the list of pictures.

    Raises:
        OSError: as the file system says.
    """
    epochs = float(recipe.schedule.epochs)
    model = {
        "format": MODEL_FORMAT,
        "recipe": recipe.model_dump(mode="json"),
        "card": card_of(recipe, epochs, pictures_sha256),
        "steps": steps,
        "state_dict": _plain(network.state_dict()),
        "optimizer": apply_to(optimizer, lambda x: isinstance(x, Tensor), lambda x: x.cpu()),
    }
    save_atomic(model, out / "model.pth")
    for make, name in (
        (released_checkpoint, "released.pth"),
        (backbone_checkpoint, "backbone.pth"),
    ):
        save_atomic(make(network.first, recipe, epochs, pictures_sha256), out / name)
