"""Everything about a run that is settled before any computing."""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from vicregl_bench.backbones.fit import PICTURES, SIDE, can_doubt, doubts
from vicregl_bench.backbones.pictures import centre_crops
from vicregl_bench.data import Fingerprint, fingerprint, split_holdout
from vicregl_bench.digest import json_sha256
from vicregl_bench.engine.device import choose_device, default_precision
from vicregl_bench.engine.reporter import Precision, Reporter
from vicregl_bench.errors import ConfigError
from vicregl_bench.records.predictions import picture_name
from vicregl_bench.tasks.domain import DataSet, Domain, Item, TrainedDomain
from vicregl_bench.tasks.domains import make_domain
from vicregl_bench.tasks.protocol import Task
from vicregl_bench.tasks.request import RunRequest


@dataclass(frozen=True)
class Plan:
    """A run's device, data, deviations and identity.

    Attributes:
        train: the pictures that are trained on.
        holdout: the slice of train that chooses the learning rate; empty where val does.
        keep: val pictures whose predictions are kept.
        key: sha256 over all that decides the result.
    """

    request: RunRequest
    device: torch.device
    precision: Precision
    domain: Domain[Any]
    train: tuple[Item, ...]
    holdout: tuple[Item, ...]
    keep: tuple[Item, ...]
    fingerprint: Fingerprint
    deviations: tuple[str, ...]
    key: str

    @property
    def task(self) -> Task:
        """The protocol."""
        return self.request.task

    @property
    def training(self) -> TrainedDomain[Any]:
        """The domain, of a task that trains by gradients."""
        assert isinstance(self.domain, TrainedDomain)
        return self.domain

    @property
    def dataset(self) -> DataSet:
        """The lists of pictures."""
        dataset: DataSet = self.domain.dataset
        return dataset

    @property
    def work(self) -> Path:
        """Where the state of the run is kept while it is not complete."""
        return (self.request.out / "work" / self.key[:12]).resolve()


def make_plan(request: RunRequest) -> Plan:
    """Settle what a request means on this machine and on its data.

    Raises:
        ConfigError: no such device, or a picture to keep that is not in val.
        DataError: the data root is incomplete.
    """
    task, source = request.task, request.source
    settings = task.settings
    device = choose_device(request.device)
    # a trained backbone takes no rounding by default
    usual = default_precision(device) if task.info.frozen else "fp32"
    precision = request.precision or usual
    domain = make_domain(request)
    dataset = domain.dataset
    train: tuple[Item, ...] = dataset.train
    holdout: tuple[Item, ...] = ()
    if request.select == "holdout":
        train, holdout = split_holdout(
            dataset.train, share=settings.sweep.holdout, seed=settings.sweep.run_seed
        )
    if isinstance(domain, TrainedDomain):
        request = _with_iterations(request, len(train))
        domain.request = request
    print_ = fingerprint(dataset.splits)
    deviations = [str(deviation) for deviation in task.deviations]
    deviations += [f"data: {note}" for note in dataset.notes]
    if precision != usual:
        deviations.append(f"precision: {precision} instead of {usual}")
    if holdout:
        deviations.append(
            f"data.train: {len(train)} pictures instead of {len(dataset.train)}; "
            f"{len(holdout)} are held out to choose the point of the grid"
        )
    identity: dict[str, Any] = {
        "protocol": [task.info.name, task.info.version, task.profile],
        "settings": settings.dump(),
        "select": request.select,
        "precision": precision,
        "weights": source.weights_sha256,
        "arch": source.arch,
        "preprocessing": [source.card.mean, source.card.std, source.card.channel_order],
        "data": print_.value,
    }
    if source.card.output_norm:
        identity["output_norm"] = True
    if source.card.pooling is not None:
        identity["pooling"] = source.card.pooling
    if request.engine != "mmdet":
        identity["engine"] = request.engine
    if task.preset is not None:
        identity["preset"] = task.preset
    key = json_sha256(identity)
    return Plan(
        request=request,
        device=device,
        precision=precision,
        domain=domain,
        train=train,
        holdout=holdout,
        keep=_chosen(dataset.val, request.pictures) if domain.keeps else (),
        fingerprint=print_,
        deviations=tuple(deviations),
        key=key,
    )


def _with_iterations(request: RunRequest, pictures: int) -> RunRequest:
    """The request with the iterations that its schedule has on so many training pictures."""
    task = request.task
    schedule = task.training.schedule.on(pictures)
    settings = task.settings.model_copy(update={"schedule": schedule})
    return replace(request, task=task.model_copy(update={"settings": settings}))


def _chosen(val: Sequence[Item], pictures: int | tuple[str, ...]) -> tuple[Item, ...]:
    """Some val pictures: those of the names given, or a number spread evenly over the list."""
    if isinstance(pictures, int):
        count = min(pictures, len(val))
        return tuple(val[i * len(val) // count] for i in range(count))
    by_name = {picture_name(pair.image): pair for pair in val}
    for name in pictures:
        if name not in by_name:
            near = difflib.get_close_matches(name, by_name, n=3, cutoff=0.3) or list(by_name)[:3]
            raise ConfigError(f"no val picture {name!r}; near it: {', '.join(near)}")
    return tuple(by_name[name] for name in dict.fromkeys(pictures))


def with_doubts(plan: Plan, reporter: Reporter) -> Plan:
    """Hold the weights' BatchNorm statistics against some pictures; doubts become notes."""
    source = plan.request.source
    if not can_doubt(source):
        return plan
    paths = [pair.image for pair in plan.train[:PICTURES]]
    found = doubts(source, centre_crops(paths, SIDE))
    for text in found:
        reporter.warn(text)
    source = replace(source, notes=(*source.notes, *found))
    return replace(plan, request=replace(plan.request, source=source))
