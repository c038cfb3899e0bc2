"""The heads of a frozen task, built from its settings, and their optimiser."""

import torch
from mmengine.optim import OptimWrapper

from vicregl_bench.backbones.contract import Architecture
from vicregl_bench.heads.fcn_sweep import FcnOptions, FcnSweep
from vicregl_bench.heads.linear_sweep import LinearSweep
from vicregl_bench.heads.sweep import Sweep
from vicregl_bench.tasks.protocol import FcnHeadSection, FcnSection, HeadSection, Task
from vicregl_bench.tasks.segmentation.training import head_specs, optimizer_options


def head_maps(task: Task, architecture: Architecture) -> tuple[int, ...]:
    """Indices of the maps that the heads of a task read; FCN's last one is the auxiliary head's."""
    if task.settings.fcn is None:
        return architecture.segmentation
    return (-1, architecture.auxiliary)


def build_sweep(task: Task, architecture: Architecture) -> Sweep:
    """The heads of a task on a frozen backbone: learning rates x seeds, in that order."""
    widths = [architecture.widths[index] for index in head_maps(task, architecture)]
    if task.settings.fcn is not None:
        return _fcn_sweep(task, task.settings.fcn, widths)
    assert task.settings.head is not None
    return _linear_sweep(task, task.settings.head, sum(widths))


def _linear_sweep(task: Task, head: HeadSection, width: int) -> LinearSweep:
    settings = task.settings
    return LinearSweep(
        width,
        settings.data.num_classes,
        head_specs(task),
        run_seed=settings.sweep.run_seed,
        batch_norm=head.batch_norm,
        dropout=head.dropout,
        init_std=head.init_std,
        ignore_index=settings.data.ignore_index,
    )


def _fcn_sweep(task: Task, fcn: FcnSection, widths: list[int]) -> FcnSweep:
    settings = task.settings
    return FcnSweep(
        widths[0],
        settings.data.num_classes,
        head_specs(task),
        decode=_fcn_options(fcn),
        auxiliary=_fcn_options(fcn.auxiliary),
        auxiliary_channels=widths[1],
        auxiliary_weight=fcn.auxiliary.loss_weight,
        run_seed=settings.sweep.run_seed,
        ignore_index=settings.data.ignore_index,
    )


def _fcn_options(section: FcnHeadSection) -> FcnOptions:
    return FcnOptions(
        channels=section.channels,
        num_convs=section.num_convs,
        concat_input=section.concat_input,
        dropout=section.dropout,
    )


def build_optimizer(task: Task, sweep: Sweep) -> OptimWrapper:
    """One optimiser with one parameter group a head, so that each keeps its own schedule."""
    kind, options = optimizer_options(task)
    make = getattr(torch.optim, kind)
    return OptimWrapper(make(sweep.param_groups(), lr=max(task.settings.sweep.lrs), **options))
