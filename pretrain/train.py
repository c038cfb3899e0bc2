"""One pretraining run: from a recipe and a folder of pictures to checkpoints."""

import errno
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from mmengine.model import MMDistributedDataParallel
from mmengine.optim import AmpOptimWrapper, OptimWrapper

from pretrain.augment import ViewMaker, ViewSpec
from pretrain.data import ViewStream, make_loader
from pretrain.distributed import (
    from_first_process,
    rank,
    synchronise_batchnorm,
    world_size,
)
from pretrain.export import export
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
from pretrain.launch import join_processes
from pretrain.optim import build_optimizer
from pretrain.pictures import PictureList, check_sizes, list_pictures, take_subset, write_list
from pretrain.probe import ProbeData, read_probe
from pretrain.recipe import Recipe
from pretrain.state import RunState, latest_checkpoint, read_state, require_same_run, write_state
from pretrain.trainee import DivergedError, Trainee, step_of
from vicregl_bench.engine.device import default_workers, device_name
from vicregl_bench.engine.reporter import Reporter
from vicregl_bench.engine.runner import DeviceRunner
from vicregl_bench.engine.stop import StopFlag, StoppableCheckpointHook
from vicregl_bench.errors import ConfigError, DataError, RecordError, RunInterruptedError

_DISK_ERRORS = {
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.ENOTDIR,
    errno.EEXIST,
    errno.ENOENT,
}


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
    state: RunState
    skipped: bool = False  # it was finished already

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


@dataclass(frozen=True)
class _Plan:
    """Everything settled before any computing."""

    request: PretrainRequest
    device: torch.device
    pictures: PictureList
    steps_per_epoch: int
    probe: ProbeData | None

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


def pretrain(request: PretrainRequest, reporter: Reporter) -> PretrainOutcome:
    """Train, or go on with the run that the folder holds.

    Raises:
        ConfigError: settings that do not fit each other, the machine or the run in the folder.
        DataError: no pictures, too few, too small or too many unreadable ones.
        DivergedError: the criterion became NaN or infinite; the last good state is kept.
        RecordError: the disk is full, or another process trains in the folder.
        RunInterruptedError: stopped by a signal; the same call goes on.
    """
    plan = _make_plan(request)
    try:
        request.out.mkdir(parents=True, exist_ok=True)
        if rank() != 0:
            return _resume_or_train(plan, reporter)
        with FileLock(request.out / ".lock", timeout=0):
            return _resume_or_train(plan, reporter)
    except DataError as error:  # from a worker it comes with torch's whole traceback
        raise DataError(str(error).strip().rpartition("DataError: ")[2]) from error
    except Timeout:
        raise RecordError(
            f"{request.out}: another process trains here; wait for it, or use another --out"
        ) from None
    except OSError as error:
        if error.errno in _DISK_ERRORS:
            raise RecordError(
                f"--out {request.out} cannot be written: {error.strerror}; what is there is kept: "
                "make room, or give a folder that can be written, and the same command again"
            ) from error
        raise


def _make_plan(request: PretrainRequest) -> _Plan:
    recipe = request.recipe
    device = join_processes(request.device)
    if recipe.run.precision == "fp16" and device.type != "cuda":
        raise ConfigError("run.precision = fp16 needs CUDA: use fp32 or bf16")
    batch, parts = recipe.schedule.batch_size, recipe.run.accumulate
    if batch % (world_size() * parts) or batch // parts < 2:
        raise ConfigError(
            f"a batch of {batch} cannot be dealt out to {world_size()} processes in {parts} parts "
            "of at least 2 pictures: change schedule.batch_size"
        )
    pictures = list_pictures(request.data)
    if recipe.data.subset is not None:
        pictures = take_subset(pictures, recipe.data.subset, seed=recipe.data.subset_seed)
    if len(pictures.names) < batch:
        raise DataError(
            f"{request.data}: {len(pictures.names)} pictures do not fill a batch of {batch}: "
            f"use --set schedule.batch_size={max(2, len(pictures.names))} or less"
        )
    check_sizes(pictures, recipe.views.largest, upscale=recipe.data.upscale)
    probe = None
    if request.probe is not None:
        probe = read_probe(request.probe, recipe.run.probe_pictures)
    return _Plan(request, device, pictures, len(pictures.names) // (batch // parts), probe)


def _resume_or_train(plan: _Plan, reporter: Reporter) -> PretrainOutcome:
    out = plan.request.out
    state = read_state(out)
    if state is not None and (state.steps or latest_checkpoint(plan.work)):
        require_same_run(state, plan.recipe, plan.pictures, out)
        if state.status == "finished" and (out / "backbone.pth").exists():
            if plan.probe is not None and state.probe_end is None:
                reporter.warn("the run had no --probe; a finished run is not probed any more")
            return PretrainOutcome(out, state, skipped=True)
    begun = RunState(
        status="running",
        recipe=plan.recipe.model_dump(mode="json"),
        pictures=len(plan.pictures.names),
        pictures_sha256=plan.pictures.sha256,
        device=device_name(plan.device),
        processes=world_size(),
        torch=torch.__version__,
        command=plan.request.command,
        last=state.last if state else {},
    )
    return PretrainOutcome(out, _train(plan, begun, reporter))


def _train(plan: _Plan, state: RunState, reporter: Reporter) -> RunState:
    """Train to the end from the newest checkpoint, or from the start."""
    out, main = plan.request.out, rank() == 0
    newest = latest_checkpoint(plan.work) if main else None
    if main and newest is None:
        (out / "unreadable.txt").unlink(missing_ok=True)
    name = from_first_process(None if newest is None else newest.name)
    resumed = None if name is None else plan.work / name
    if resumed is not None:
        reporter.warn(f"going on at step {_step_of(resumed)} of {plan.total}")
    if main:
        if resumed is None:
            write_list(plan.pictures.names, out / "pictures.txt")
        write_state(out, state)
    hooks = _make_hooks(plan, 0 if resumed is None else _step_of(resumed), reporter)
    stop = StopFlag()
    try:
        with stop.listening():
            runner = _build_runner(plan, stop, hooks, resumed)
            runner.train()
    except RunInterruptedError:
        _note(plan, state, hooks, "stopped")
        raise RunInterruptedError(
            f"stopped; {out} keeps the state, the same command goes on"
        ) from None
    except DivergedError as error:
        _note(plan, state, hooks, "diverged")
        kept = latest_checkpoint(plan.work)
        raise DivergedError(
            f"step {runner.iter + 1}: the criterion or the weights are not finite ({error}); "
            + (f"the last good state is {kept}; " if kept else "")
            + "begin again in another --out with a smaller optimizer.base_lr"
            + ("" if plan.recipe.run.precision == "fp32" else ", or with run.precision=fp32")
        ) from None
    probe = hooks.probe
    finished = state.model_copy(
        update={
            "status": "finished",
            "steps": plan.total,
            "wall_s": round(hooks.state.wall_s, 2),
            "last": state.last | hooks.log.last,
            "probe_start": probe.first if probe else None,
            "probe_end": probe.latest if probe else None,
        }
    )
    if main:
        network = bare(runner.model).network
        state_dict = runner.optim_wrapper.state_dict()
        export(network, state_dict, plan.recipe, plan.total, out, plan.pictures.sha256)
        write_state(out, finished)
    return finished


def _note(plan: _Plan, state: RunState, hooks: "_Hooks", status: str) -> None:
    """Say in run.json how far the run came."""
    if rank() == 0:
        reached = {"status": status, "wall_s": round(hooks.state.wall_s, 2), "last": hooks.log.last}
        write_state(plan.request.out, state.model_copy(update=reached))


def _step_of(checkpoint: Path) -> int:
    return int(checkpoint.stem.partition("_")[2])


@dataclass(frozen=True)
class _Hooks:
    """The hooks of a run by name."""

    rate: RateHook
    log: LogHook
    unreadable: UnreadableHook
    state: StateHook
    probe: ProbeHook | None

    def as_list(self) -> list[Any]:
        """For the runner."""
        hooks = [self.rate, self.unreadable, self.log, self.log.clock, self.state]
        return [*hooks, self.probe] if self.probe else hooks


def _make_hooks(plan: _Plan, begun_at: int, reporter: Reporter) -> _Hooks:
    recipe, request = plan.recipe, plan.request
    log = Log(request.out / "log.csv", LOG_COLUMNS, begun_at) if rank() == 0 else None
    probe = None
    if plan.probe is not None:
        probe = ProbeHook(recipe, plan.probe, log, reporter)
    return _Hooks(
        RateHook(recipe, plan.steps_per_epoch),
        LogHook(recipe, log, reporter, plan.steps_per_epoch),
        UnreadableHook(
            request.out / "unreadable.txt",
            int(recipe.data.unreadable * len(plan.pictures.names)),
            reporter.warn,
        ),
        StateHook(),
        probe,
    )


def _build_runner(
    plan: _Plan, stop: StopFlag, hooks: _Hooks, resumed: Path | None
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
        "optimizer": build_optimizer(recipe.optimizer, model),
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
            "checkpoint": StoppableCheckpointHook(
                stop, run.accumulate, interval=run.save_every, max_keep_ckpts=2
            ),
            "logger": {
                "type": "LoggerHook",
                "interval": run.log_every,
                "log_metric_by_epoch": False,
            },
        },
        custom_hooks=hooks.as_list(),
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
