"""The heads of a frozen task, built from its settings."""

from vicregl_bench.backbones.contract import Architecture
from vicregl_bench.heads.fcn_sweep import FcnOptions, FcnSweep
from vicregl_bench.heads.linear_sweep import LinearSweep
from vicregl_bench.heads.sweep import Sweep
from vicregl_bench.tasks.grid import head_specs
from vicregl_bench.tasks.segmentation.settings import (
    FcnHeadSection,
    FcnSection,
    HeadSection,
    SegmentationSettings,
)


def head_maps(settings: SegmentationSettings, architecture: Architecture) -> tuple[int, ...]:
    """Indices of the maps that the heads of a task read; FCN's last one is the auxiliary head's."""
    if settings.fcn is None:
        return architecture.segmentation
    return (-1, architecture.auxiliary)


def build_sweep(settings: SegmentationSettings, architecture: Architecture) -> Sweep:
    """The heads of a task on a frozen backbone: in the order of `head_specs`."""
    widths = [architecture.widths[index] for index in head_maps(settings, architecture)]
    if settings.fcn is not None:
        return _fcn_sweep(settings, settings.fcn, widths)
    assert settings.head is not None  # SegmentationSettings has either
    return _linear_sweep(settings, settings.head, sum(widths))


def _linear_sweep(settings: SegmentationSettings, head: HeadSection, width: int) -> LinearSweep:
    return LinearSweep(
        width,
        settings.data.num_classes,
        head_specs(settings),
        run_seed=settings.sweep.run_seed,
        batch_norm=head.batch_norm,
        dropout=head.dropout,
        init_std=head.init_std,
        ignore_index=settings.data.ignore_index,
    )


def _fcn_sweep(settings: SegmentationSettings, fcn: FcnSection, widths: list[int]) -> FcnSweep:
    return FcnSweep(
        widths[0],
        settings.data.num_classes,
        head_specs(settings),
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
