"""One pretraining run: from a recipe and a folder of pictures to checkpoints."""

import errno
import json
import os
import time
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from mmengine.dist import init_dist
from mmengine.model import MMDistributedDataParallel
from mmengine.optim import AmpOptimWrapper, OptimWrapper
from torch import nn
from torch.optim import AdamW, Optimizer

from pretrain.augment import ViewMaker, ViewSpec
from pretrain.data import ViewStream, make_loader
from pretrain.distributed import rank, synchronise_batchnorm, world_size
from pretrain.export import (
    MODEL_FORMAT,
    backbone_checkpoint,
    card_of,
    released_checkpoint,
    save_atomic,
)
from pretrain.hooks import (
    LOG_COLUMNS,
    Log,
    LogHook,
    ProbeHook,
    RateHook,
    StateHook,
    UnreadableHook,
    bare,
)
from pretrain.optim import LARS
from pretrain.pictures import PictureList, check_sizes, list_pictures, take_subset, write_list
from pretrain.probe import ProbeScores, read_probe
from pretrain.recipe import Recipe, differences
from pretrain.trainee import DivergedError, Trainee, step_of
from vicregl_bench.atomic import write_atomic
from vicregl_bench.engine.device import choose_device, default_workers, device_name
from vicregl_bench.engine.reporter import Reporter
from vicregl_bench.engine.runner import DeviceRunner
from vicregl_bench.engine.stop import StopFlag, StoppableCheckpointHook
from vicregl_bench.errors import ConfigError, DataError, RecordError, RunInterruptedError

_DISK_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR}
STATE_FILE = "run.json"


@dataclass(frozen=True)
class PretrainRequest:
    """One run asked for."""

    recipe: Recipe
    data: Path
    out: Path
    probe: Path | None = None  # labelled folders, see probe.read_probe
    device: str = "auto"
    workers: int | None = None  # None: chosen by device
    command: str = ""


@dataclass(frozen=True)
class PretrainOutcome:
    """What a run left, and where."""

    out: Path
    status: str  # "finished"
    steps: int
    pictures: int
    wall_s: float  # of this call and of all earlier parts
    last: Mapping[str, float]  # last logged values
    probe_start: ProbeScores | None
    probe_end: ProbeScores | None
    skipped: bool = False

    @property
    def model(self) -> Path:
        """Network, optimiser and recipe."""
        return self.out / "model.pth"

    @property
    def backbone(self) -> Path:
        """What `vicregl-bench run --ckpt` takes."""
        return self.out / "backbone.pth"


class _ParallelTrainee(MMDistributedDataParallel):  # type: ignore[misc]
    """A trainee in DDP: one forward over all views of a step."""

    def train_step(self, data: Any, optim_wrapper: Any) -> dict[str, torch.Tensor]:
        """One step, as mmengine calls it."""
        return step_of(self, data, optim_wrapper)


class _PretrainRunner(DeviceRunner):
    """The runner, with the trainee in DDP where there are several processes."""

    def wrap_model(self, model_wrapper_cfg: Any, model: Any) -> Any:
        """Move, synchronise BatchNorm, wrap."""
        model = model.to(self._device, memory_format=torch.channels_last)
        if world_size() == 1:
            return model
        model = synchronise_batchnorm(model, self._device)
        ids = [self._device.index] if self._device.type == "cuda" else None
        return _ParallelTrainee(model, device_ids=ids)


def build_optimizer(recipe: Recipe, model: nn.Module) -> Optimizer:
    """The recipe's optimiser; AdamW decays only tensors with two or more dimensions."""
    settings = recipe.optimizer
    if settings.type == "LARS":
        return LARS(
            model.parameters(),
            lr=0.0,
            momentum=settings.momentum,
            weight_decay=settings.weight_decay,
            eta=settings.eta,
        )
    parameters = list(model.parameters())
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": settings.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return AdamW(groups, lr=0.0, betas=settings.betas)


def join_processes(device: str) -> torch.device:
    """Join the processes of torchrun or srun, if there are any, and choose this one's device.

    Raises:
        ConfigError: no such device, or srun without GPUs.
    """
    chosen = choose_device(device)
    by_srun = "RANK" not in os.environ and int(os.environ.get("SLURM_STEP_NUM_TASKS", "1")) > 1
    if by_srun and chosen.type != "cuda":
        raise ConfigError("several tasks of srun need GPUs: use torchrun on the CPU")
    if by_srun and not torch.distributed.is_initialized():
        init_dist("slurm", backend="nccl")
    if not by_srun and int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return chosen
    if chosen.type == "cuda":
        chosen = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(chosen)
    if not torch.distributed.is_initialized():
        torch.distributed.init_process_group("nccl" if chosen.type == "cuda" else "gloo")
    return chosen


@dataclass(frozen=True)
class _Plan:
    """Everything settled before any computing."""

    request: PretrainRequest
    device: torch.device
    pictures: PictureList
    steps_per_epoch: int

    @property
    def recipe(self) -> Recipe:
        return self.request.recipe

    @property
    def work(self) -> Path:
        return self.request.out / "work"

    @property
    def total(self) -> int:
        return self.recipe.schedule.epochs * self.steps_per_epoch

    @property
    def loader_batch(self) -> int:
        return self.recipe.schedule.batch_size // self.recipe.run.accumulate


def _make_plan(request: PretrainRequest, reporter: Reporter) -> _Plan:
    recipe = request.recipe
    device = join_processes(request.device)
    if recipe.run.precision == "fp16" and device.type != "cuda":
        raise ConfigError("run.precision = fp16 needs CUDA: use fp32 or bf16")
    batch, shares = recipe.schedule.batch_size, world_size() * recipe.run.accumulate
    if batch % shares or (batch // recipe.run.accumulate) < 2:
        raise ConfigError(
            f"a batch of {batch} cannot be dealt out to {world_size()} processes in "
            f"{recipe.run.accumulate} parts of at least 2 pictures: change schedule.batch_size"
        )
    pictures = list_pictures(request.data)
    if recipe.data.subset is not None:
        pictures = take_subset(pictures, recipe.data.subset, seed=recipe.data.subset_seed)
    steps = len(pictures.names) // (batch // recipe.run.accumulate)
    if len(pictures.names) < batch:
        raise DataError(
            f"{request.data}: {len(pictures.names)} pictures do not fill a batch of {batch}: "
            f"use --set schedule.batch_size={max(2, len(pictures.names) // 2)}"
        )
    check_sizes(pictures, recipe.views.largest, upscale=recipe.data.upscale)
    return _Plan(request, device, pictures, steps)


def _read_state(out: Path) -> dict[str, Any]:
    path = out / STATE_FILE
    if not path.exists():
        return {}
    try:
        state = json.loads(path.read_text(encoding="utf-8"))
        return {"recipe": state["recipe"], "pictures_sha256": state["pictures_sha256"], **state}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RecordError(
            f"{path}: not the state of a run ({error}); move {out} away or use another --out"
        ) from error


def _write_state(plan: _Plan, status: str, **more: Any) -> None:
    if rank() != 0:
        return
    state = {
        "status": status,
        "recipe": plan.recipe.model_dump(mode="json"),
        "pictures": len(plan.pictures.names),
        "pictures_sha256": plan.pictures.sha256,
        "device": device_name(plan.device),
        "processes": world_size(),
        "torch": torch.__version__,
        "command": plan.request.command,
        **more,
    }
    text = json.dumps(state, indent=2, ensure_ascii=False) + "\n"
    write_atomic(plan.request.out / STATE_FILE, text.encode())


def _require_same_run(state: Mapping[str, Any], plan: _Plan) -> None:
    """Stop where the folder holds another run.

    Raises:
        ConfigError: other settings.
        DataError: other pictures.
    """
    out = plan.request.out
    changed = differences(state["recipe"], plan.recipe.model_dump(mode="json"))
    if changed:
        raise ConfigError(
            f"{out} holds a run of another recipe ({'; '.join(changed[:4])}): use another --out, "
            "or the settings it began with"
        )
    if state["pictures_sha256"] != plan.pictures.sha256:
        raise DataError(
            f"{out} holds a run over {state.get('pictures', 'other')} other pictures than the "
            f"{len(plan.pictures.names)} in {plan.request.data}: use another --out"
        )


def latest_checkpoint(work: Path) -> Path | None:
    """The newest whole checkpoint of a run; half-written ones are passed over."""
    numbered = sorted(work.glob("iter_*.pth"), key=lambda p: int(p.stem.partition("_")[2]))
    return next((path for path in reversed(numbered) if zipfile.is_zipfile(path)), None)


def pretrain(request: PretrainRequest, reporter: Reporter) -> PretrainOutcome:
    """Train, or go on with the run that the folder holds.

    Raises:
        ConfigError: settings that do not fit each other, the machine or the run in the folder.
        DataError: no pictures, too few, too small or too many unreadable ones.
        DivergedError: the criterion became NaN or infinite; the last good state is kept.
        RecordError: the disk is full, or another process trains in the folder.
        RunInterruptedError: stopped by a signal; the same call goes on.
    """
    plan = _make_plan(request, reporter)
    try:
        request.out.mkdir(parents=True, exist_ok=True)
        if rank() != 0:
            return _resume_or_train(plan, reporter)
        with FileLock(request.out / ".lock", timeout=0):
            return _resume_or_train(plan, reporter)
    except Timeout:
        raise RecordError(
            f"{request.out}: another process trains here; wait for it, or use another --out"
        ) from None
    except OSError as error:
        if error.errno in _DISK_ERRORS:
            raise RecordError(
                f"cannot write to {request.out}: {error.strerror}; the last whole state is kept: "
                "make room and give the same command again"
            ) from error
        raise


def _resume_or_train(plan: _Plan, reporter: Reporter) -> PretrainOutcome:
    state = _read_state(plan.request.out)
    if state:
        _require_same_run(state, plan)
    if state.get("status") == "finished" and (plan.request.out / "backbone.pth").exists():
        probe = {k: ProbeScores(**v) if v else None for k, v in state["probe"].items()}
        return PretrainOutcome(
            out=plan.request.out,
            status="finished",
            steps=state["steps"],
            pictures=state["pictures"],
            wall_s=state["wall_s"],
            last=state["last"],
            probe_start=probe["start"],
            probe_end=probe["end"],
            skipped=True,
        )
    return _train(plan, state, reporter)


def _train(plan: _Plan, state: Mapping[str, Any], reporter: Reporter) -> PretrainOutcome:
    recipe, request, main = plan.recipe, plan.request, rank() == 0
    resumed = latest_checkpoint(plan.work)
    begun_at = int(resumed.stem.partition("_")[2]) if resumed else 0
    earlier = float(state.get("wall_s", 0.0)) if resumed else 0.0
    start: ProbeScores | None = None
    if resumed:
        reporter.warn(f"going on at step {begun_at} of {plan.total}")
        saved = (state.get("probe") or {}).get("start")
        start = ProbeScores(**saved) if saved else None
    elif main:
        write_list(plan.pictures.names, request.out / "pictures.txt")
        (request.out / "unreadable.txt").unlink(missing_ok=True)
    _write_state(plan, "running", wall_s=earlier, probe={"start": _as_dict(start), "end": None})
    log = Log(request.out / "log.csv", LOG_COLUMNS, begun_at) if main else None
    stop = StopFlag()
    logging = LogHook(recipe, log, reporter, plan.steps_per_epoch)
    logging.last |= state.get("last") or {}
    hooks: list[Any] = [
        RateHook(recipe, plan.steps_per_epoch),
        logging,
        UnreadableHook(
            request.out / "unreadable.txt" if main else None,
            int(recipe.data.unreadable * len(plan.pictures.names)),
            reporter.warn,
        ),
        StateHook(),
    ]
    probe: ProbeHook | None = None
    if request.probe is not None:
        probe = ProbeHook(
            recipe, read_probe(request.probe, recipe.run.probe_pictures), log, reporter
        )
        hooks.append(probe)
    begin = time.monotonic()
    try:
        with stop.listening():
            runner = _build_runner(plan, stop, hooks, resumed)
            runner.train()
    except RunInterruptedError:
        raise RunInterruptedError(
            f"stopped; {request.out} keeps the state, the same command goes on"
        ) from None
    except DivergedError as error:
        kept = latest_checkpoint(plan.work)
        raise DivergedError(
            f"step {runner.iter + 1}: the criterion or the weights are not finite ({error}); "
            + (f"the last good state is {kept}; " if kept else "")
            + "begin again elsewhere with a smaller optimizer.base_lr, or with run.precision=fp32"
        ) from None
    finally:
        wall = earlier + time.monotonic() - begin
        if probe is not None and probe.first is not None:
            start = probe.first
        _write_state(
            plan,
            "running",
            wall_s=round(wall, 2),
            last=dict(logging.last),
            probe={"start": _as_dict(start), "end": None},
        )
    end = probe.latest if probe is not None else None
    outcome = PretrainOutcome(
        out=request.out,
        status="finished",
        steps=plan.total,
        pictures=len(plan.pictures.names),
        wall_s=round(wall, 2),
        last=logging.last,
        probe_start=start,
        probe_end=end,
    )
    if main:
        _export(plan, bare(runner.model), runner.optim_wrapper)
        _write_state(
            plan,
            "finished",
            steps=plan.total,
            wall_s=outcome.wall_s,
            last=dict(logging.last),
            probe={"start": _as_dict(start), "end": _as_dict(end)},
        )
    return outcome


def _as_dict(scores: ProbeScores | None) -> dict[str, float] | None:
    return None if scores is None else {"knn": scores.knn, "linear": scores.linear}


def _build_runner(
    plan: _Plan, stop: StopFlag, hooks: list[Any], resumed: Path | None
) -> _PretrainRunner:
    recipe, run = plan.recipe, plan.recipe.run
    # seeded here, so that runs of different criteria begin with the same backbone
    torch.manual_seed(run.seed)
    model = Trainee(recipe, plan.device.type)
    views = recipe.views
    small = None
    if views.small_count:
        small = ViewSpec(views.small_size, views.small_scale, views.small_count)
    make_views = ViewMaker(
        ViewSpec(views.large_size, views.large_scale, 2),
        small,
        views.pipeline,
        views.interpolation,
    )
    workers = plan.request.workers
    loader = make_loader(
        ViewStream(plan.pictures, make_views, run.seed),
        batch=plan.loader_batch,
        seed=run.seed,
        workers=default_workers(plan.device) if workers is None else workers,
        pin=plan.device.type == "cuda",
    )
    wrapping: dict[str, Any] = {
        "optimizer": build_optimizer(recipe, model),
        "accumulative_counts": run.accumulate,
        "clip_grad": {"max_norm": run.clip_grad} if run.clip_grad else None,
    }
    wrapper = (
        AmpOptimWrapper(dtype="float16", **wrapping)
        if run.precision == "fp16"
        else OptimWrapper(**wrapping)
    )
    return _PretrainRunner(
        plan.device,
        model=model,
        work_dir=str(plan.work),
        train_dataloader=loader,
        train_cfg={
            "type": "IterBasedTrainLoop",
            "max_iters": plan.total,
            "val_interval": plan.total + 1,
        },
        optim_wrapper=wrapper,
        default_hooks={
            "checkpoint": StoppableCheckpointHook(stop, interval=run.save_every, max_keep_ckpts=2),
            "logger": {
                "type": "LoggerHook",
                "interval": run.log_every,
                "log_metric_by_epoch": False,
            },
        },
        custom_hooks=hooks,
        launcher="none",
        env_cfg={"mp_cfg": {"mp_start_method": "fork", "opencv_num_threads": 0}},
        log_processor={"by_epoch": False},
        visualizer={
            "type": "Visualizer",
            "vis_backends": [
                {
                    "type": "TensorboardVisBackend",
                    "save_dir": str(plan.request.out / "tensorboard"),
                }
            ],
        },
        randomness={"seed": run.seed},
        default_scope="mmengine",
        experiment_name=f"pretrain-{time.time_ns()}",
        load_from=None if resumed is None else str(resumed),
        resume=resumed is not None,
    )


def _export(plan: _Plan, trainee: Trainee, optim_wrapper: Any) -> None:
    recipe, out, epochs = plan.recipe, plan.request.out, float(plan.recipe.schedule.epochs)
    branch = trainee.network.first
    save_atomic(
        {
            "format": MODEL_FORMAT,
            "recipe": recipe.model_dump(mode="json"),
            "card": card_of(recipe, epochs),
            "steps": plan.total,
            "state_dict": {k: v.detach().cpu() for k, v in trainee.network.state_dict().items()},
            "optimizer": optim_wrapper.state_dict(),
        },
        out / "model.pth",
    )
    save_atomic(released_checkpoint(branch, recipe, epochs), out / "released.pth")
    save_atomic(backbone_checkpoint(branch, recipe, epochs), out / "backbone.pth")
