"""The points of a grid: learning rates, warm-ups and seeds, and the schedule of each."""

from typing import Any

from vicregl_bench.heads.sweep import HeadSpec
from vicregl_bench.tasks.settings import TrainedSettings, WarmupSection


def head_specs(settings: TrainedSettings) -> tuple[HeadSpec, ...]:
    """Learning rates x warm-ups x seeds, in that order."""
    sweep = settings.sweep
    options: list[tuple[tuple[str, float | str], ...]] = [()]
    if sweep.warmups is not None:
        options = [
            (("warmup.iters", one.iters), ("warmup.start_factor", one.start_factor))
            for one in sweep.warmups
        ]
    return tuple(
        HeadSpec(lr, seed, chosen)
        for lr in sweep.lrs
        for chosen in options
        for seed in range(sweep.seeds)
    )


def learning_rate_schedule(
    settings: TrainedSettings, head: HeadSpec | None = None
) -> list[dict[str, Any]]:
    """Mmengine configuration: a linear warm-up where there is one, then poly, cosine or steps.

    Args:
        settings: of the task.
        head: of a grid over warm-ups, which has one of its own.
    """
    schedule = settings.schedule
    warmup = schedule.warmup
    if head is not None and head.options:
        chosen = dict(head.options)
        warmup = WarmupSection(
            iters=int(chosen["warmup.iters"]), start_factor=float(chosen["warmup.start_factor"])
        )
    begin = warmup.iters if warmup else 0
    falling: dict[str, Any]
    if schedule.poly is not None:
        falling = {
            "type": "PolyLR",
            "power": schedule.poly.power,
            "eta_min": schedule.poly.eta_min,
            "begin": begin,
            "end": schedule.iters,
            "by_epoch": False,
        }
    elif schedule.cosine is not None:
        falling = {
            "type": "CosineAnnealingLR",
            "T_max": schedule.iters - begin,
            "eta_min_ratio": schedule.cosine.eta_min_ratio,
            "begin": begin,
            "end": schedule.iters,
            "by_epoch": False,
        }
    else:
        assert schedule.steps is not None  # a schedule has one of the three
        falling = {
            "type": "MultiStepLR",
            "milestones": list(schedule.milestones),
            "gamma": schedule.steps.gamma,
            "by_epoch": False,
        }
    if warmup is None:
        return [falling]
    rising = {"type": "LinearLR", "start_factor": warmup.start_factor, "begin": 0, "end": begin}
    return [{**rising, "by_epoch": False}, falling]


def described(head: HeadSpec) -> str:
    """A head in words, such as "lr 0.1, seed 0"."""
    words = [] if head.lr is None else [f"lr {head.lr:g}"]
    words += [
        f"{name} {value}" if isinstance(value, str) else f"{name} {value:g}"
        for name, value in head.options
    ]
    return ", ".join([*words, f"seed {head.seed}"])
