"""How good the features are while they are learnt: kNN and a linear probe on labelled pictures.

Not an evaluation of the suite: pictures are few and small, and nothing is swept.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import torch
from torch import Tensor, nn
from torchvision.transforms.v2 import functional as transforms

from pretrain.data import normalise
from pretrain.model import representations
from pretrain.pictures import PictureList, list_pictures, read_picture, take_subset
from vicregl_bench.errors import DataError

_BATCH = 128
_RIDGE = 1e-2  # of the linear probe, per picture, on standardised features; ours, not tuned


@dataclass(frozen=True)
class ProbeData:
    """Labelled pictures: those remembered, and those asked about."""

    bank: PictureList
    queries: PictureList


@dataclass(frozen=True)
class ProbeScores:
    """Top-1 accuracies in percent."""

    knn: float
    linear: float


def read_probe(root: Path, pictures: int) -> ProbeData:
    """Labelled folders for the probe.

    Args:
        root: a folder with train/ and val/, each with class folders; or class folders, of which
            half the pictures of each class, chosen by hash, are asked about.
        pictures: how many are taken of a larger part: the same share of each class, at least one.

    Raises:
        DataError: fewer than two class folders, or train and val have different classes.
    """
    if (root / "train").is_dir() and (root / "val").is_dir():
        bank, queries = list_pictures(root / "train"), list_pictures(root / "val")
    else:
        whole = list_pictures(root)
        half = frozenset(take_subset(whole, 0.5).names)
        bank = PictureList(root, tuple(sorted(half)))
        queries = PictureList(root, tuple(name for name in whole.names if name not in half))
    if len(bank.classes) < 2 or bank.classes != queries.classes:
        raise DataError(
            f"{root}: the probe needs train/ and val/ with the same class folders, or class "
            "folders of two pictures or more; two classes at least"
        )
    return ProbeData(_thin(bank, pictures), _thin(queries, pictures))


def _thin(pictures: PictureList, most: int) -> PictureList:
    if len(pictures.names) <= most:
        return pictures
    share = most / len(pictures.names)
    names: list[str] = []
    for _, group in groupby(pictures.names, key=lambda name: name.partition("/")[0]):
        own = PictureList(pictures.root, tuple(group))
        # a class left out would shift the labels of those after it
        names += take_subset(own, max(share, 1 / len(own.names))).names
    return PictureList(pictures.root, tuple(sorted(names)))


def extract(
    backbone: nn.Module,
    pictures: PictureList,
    size: int,
    normalisation: tuple[tuple[float, ...], tuple[float, ...]],
    on_progress: Callable[[int], None] = lambda done: None,
) -> Tensor:
    """Pooled features (N, C) of centre crops, in evaluation mode; the mode is put back.

    Args:
        backbone: see model.build_backbone.
        pictures: N of them, all readable.
        size: side of the crop, the shorter side having been resized to size * 256 / 224.
        normalisation: mean and std on [0, 1] pixels.
        on_progress: told how many pictures are done.

    Raises:
        DataError: a picture cannot be read.
    """
    device = next(backbone.parameters()).device
    was_training = backbone.training
    backbone.eval()
    features = []
    try:
        for first in range(0, len(pictures.names), _BATCH):
            crops = []
            for name in pictures.names[first : first + _BATCH]:
                picture = read_picture(pictures.root / name)
                resized = transforms.resize(picture, [round(size * 256 / 224)], antialias=True)
                crops.append(transforms.center_crop(resized, [size, size]))
            batch = normalise(torch.stack(crops).to(device), *normalisation)
            batch = batch.contiguous(memory_format=torch.channels_last)
            features.append(representations(backbone, batch).float().cpu())
            on_progress(min(first + _BATCH, len(pictures.names)))
    finally:
        backbone.train(was_training)
    return torch.cat(features)


def knn_accuracy(
    bank: Tensor, bank_labels: Tensor, queries: Tensor, labels: Tensor, k: int
) -> float:
    """Top-1 accuracy in percent of a weighted vote of the k nearest by cosine similarity.

    Votes are weighted by exp(similarity / 0.07) (Wu et al. 2018, as DINO has it).
    """
    unit = torch.nn.functional.normalize
    similar = unit(queries, dim=1) @ unit(bank, dim=1).T
    best = similar.topk(min(k, len(bank)), dim=1)
    votes = torch.zeros(len(queries), int(bank_labels.max()) + 1)
    votes.scatter_add_(1, bank_labels[best.indices], (best.values / 0.07).exp())
    return 100.0 * float((votes.argmax(dim=1) == labels).float().mean())


def linear_accuracy(bank: Tensor, bank_labels: Tensor, queries: Tensor, labels: Tensor) -> float:
    """Top-1 accuracy in percent of a multinomial logistic regression on standardised features."""
    mean, std = bank.mean(dim=0), bank.std(dim=0).clamp_min(1e-6)
    x, y = (bank - mean) / std, (queries - mean) / std
    with torch.enable_grad():
        classes = int(bank_labels.max()) + 1
        weight = torch.zeros(classes, x.shape[1], requires_grad=True)
        bias = torch.zeros(classes, requires_grad=True)
        optimizer = torch.optim.LBFGS([weight, bias], max_iter=100, line_search_fn="strong_wolfe")

        def closure() -> float:
            optimizer.zero_grad()
            loss = torch.nn.functional.cross_entropy(x @ weight.T + bias, bank_labels)
            loss = loss + 0.5 * _RIDGE * weight.square().sum()
            loss.backward()  # type: ignore[no-untyped-call]
            return float(loss.detach())

        optimizer.step(closure)  # type: ignore[no-untyped-call]
    predicted = (y @ weight.detach().T + bias.detach()).argmax(dim=1)
    return 100.0 * float((predicted == labels).float().mean())


def score(
    backbone: nn.Module,
    data: ProbeData,
    *,
    size: int,
    normalisation: tuple[tuple[float, ...], tuple[float, ...]],
    k: int,
    on_progress: Callable[[int], None] = lambda done: None,
) -> ProbeScores:
    """KNN and linear accuracy of a backbone; see extract for the arguments."""
    split = len(data.bank.names)
    bank = extract(backbone, data.bank, size, normalisation, on_progress)
    queries = extract(
        backbone, data.queries, size, normalisation, lambda done: on_progress(split + done)
    )
    labels = torch.tensor(data.bank.labels()), torch.tensor(data.queries.labels())
    return ProbeScores(
        knn=knn_accuracy(bank, labels[0], queries, labels[1], k),
        linear=linear_accuracy(bank, labels[0], queries, labels[1]),
    )
