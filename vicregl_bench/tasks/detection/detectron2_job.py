"""A fine-tuned detection task whose runs detectron2 trains: the same grid, scores and record.

Pictures, splits, schedule, weights and the measuring of AP are this project's, what lies between is
detectron2's `DefaultTrainer`. One process trains on one device; several share the runs of a task as
those of `FinetuneJob` do.

A run's folder holds detectron2's config.yaml, log.txt, metrics.json and checkpoints. A run that was
stopped goes on from its last checkpoint; unlike with mmdet, its pictures are then drawn anew.
"""

import contextlib
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vicregl_bench.atomic import write_atomic
from vicregl_bench.checkpoints.convert import convert_state, save_converted
from vicregl_bench.data import DetectionData, Picture
from vicregl_bench.engine.device import default_workers
from vicregl_bench.engine.reporter import Reporter
from vicregl_bench.engine.stop import StopFlag
from vicregl_bench.errors import ConfigError, RunInterruptedError
from vicregl_bench.heads.sweep import HeadSpec
from vicregl_bench.records import Record
from vicregl_bench.tasks.detection.detectron2_engine import (
    Config,
    as_mmdet,
    dataset_dicts,
    detectron2_config,
    engine_deviations,
    register_extra_norm,
    require_detectron2,
    to_yaml,
)
from vicregl_bench.tasks.detection.settings import DetectionSettings
from vicregl_bench.tasks.detection.trained_detector import is_finite
from vicregl_bench.tasks.finetune_job import FinetuneJob
from vicregl_bench.tasks.grid import described, learning_rate_schedule
from vicregl_bench.tasks.measured import Scores
from vicregl_bench.tasks.outcome import Outcome
from vicregl_bench.tasks.plan import Plan
from vicregl_bench.tasks.run_result import RunResult, save_result
from vicregl_bench.tasks.settings import WarmupSection
from vicregl_bench.tasks.state import Clock, forget_state, resumes

_RESULT = "result.npz"


class Detectron2Job(FinetuneJob):
    """A task of kind `detection_c4_finetuned`, trained by detectron2.

    Args:
        plan: of the run; what differs from mmdet's engine is added to its deviations.
        reporter: of the progress.
        found: an earlier record of the same key.

    Raises:
        ConfigError: detectron2 is missing, or cannot do what the task or the backbone needs.
    """

    def __init__(self, plan: Plan, reporter: Reporter, found: Record | None) -> None:
        require_possible(plan)
        version = require_detectron2()
        deviations = (*plan.deviations, *engine_deviations(version))
        super().__init__(replace(plan, deviations=deviations), reporter, found)
        self.root = plan.work / "detectron2"
        self.folders = tuple(self.root / folder.name for folder in self.folders)

    def forget(self) -> None:
        """Remove the results of the runs and the converted weights; configs and logs stay."""
        super().forget()
        self._weights.unlink(missing_ok=True)

    @property
    def _weights(self) -> Path:
        return self.root / "backbone.pkl"

    def _train(self, k: int, stop: StopFlag) -> None:
        plan, head, folder = self.plan, self.heads[k], self.folders[k]
        dataset = plan.dataset
        assert isinstance(dataset, DetectionData)
        folder.mkdir(parents=True, exist_ok=True)
        if not self._weights.exists():
            state = convert_state(plan.request.source.state_dict, "resnet", "detectron2")
            save_converted(state, "detectron2", self._weights, force=True)
        prefix = f"vicregl_bench_{plan.key[:12]}"
        pictures: dict[str, Sequence[Any]] = {
            f"{prefix}_{split}": chosen
            for split, chosen in (
                ("train", plan.train),
                ("val", dataset.val),
                ("holdout", plan.holdout),
            )
        }
        train, val, held = pictures
        clock = Clock(folder, plan.device)
        config = run_config(
            plan, head, str(self._weights), train, val, folder, done=clock.earlier.iterations
        )
        write_atomic(folder / "config.yaml", to_yaml(config).encode())
        run = _Run(
            folder, config, clock, stop, self.reporter, f"{described(head)} ({self._place(k)})"
        )
        scores = Scores()
        with (
            clock,
            torch.backends.cudnn.flags(enabled=True, allow_tf32=False),
            _logs_in(folder / "log.txt"),
        ):
            _register(dataset, pictures)
            trainer = _make_trainer(run)
            diverged_at = _train_to_the_end(trainer, run)
            if diverged_at < 0:
                on_holdout = None
                if plan.holdout:
                    name = "scoring the held-out slice"
                    on_holdout = self._outcome(plan.holdout, trainer, held, run, name)
                on_val = self._outcome(dataset.val, trainer, val, run, "validating")
                scores = Scores(on_val, on_holdout)
        save_result(folder / _RESULT, RunResult(head, diverged_at, scores))
        forget_state(folder, but_spent=True)

    def _place(self, k: int) -> str:
        return f"{k + 1} of {len(self.heads)}"

    def _outcome(
        self, pictures: Sequence[Any], trainer: Any, name: str, run: "_Run", stage: str
    ) -> Outcome | None:
        """What the trained detector finds in some pictures, measured as mmdet's is."""
        report = self.reporter.stage(f"{stage} {run.name}", len(pictures))
        found = _detect(trainer, name, report, run.stop)
        evaluation = self.plan.training.evaluation(pictures)
        evaluation.process(
            None,
            [
                {"img_id": picture.id, "pred_instances": found[str(picture.id)]}
                for picture in pictures
            ],
        )
        evaluation.evaluate(len(pictures))
        outcome: Outcome | None = evaluation.outcome
        return outcome


def require_possible(plan: Plan) -> None:
    """Stop on a run that detectron2 cannot make, before it is looked for.

    Raises:
        ConfigError: another kind of task, precision, data set, schedule or backbone.
    """
    info = plan.task.info
    if info.kind != "detection_c4_finetuned":
        raise ConfigError(
            f"--engine detectron2 is for fine-tuned Faster R-CNN C4 (voc_det_frcnn_c4), not for "
            f"{info.name}"
        )
    if plan.precision != "fp32":
        raise ConfigError(
            f"--engine detectron2 trains in fp32: its mixed precision is float16, not "
            f"{plan.precision}"
        )
    detectron2_config(
        _settings(plan),
        plan.request.source.card,
        "",
        architecture=plan.request.source.architecture,
        lr=1.0,
        warmup=None,
    )


def run_config(
    plan: Plan, head: HeadSpec, weights: str, train: str, test: str, output: Path, *, done: int = 0
) -> Config:
    """detectron2's config of one run of a task.

    Args:
        plan: of the task.
        head: learning rate, warm-up and seed.
        weights: file of the backbone.
        train: data set's name in detectron2's catalogue.
        test: likewise.
        output: folder.
        done: iterations of earlier parts of the run: what goes on draws pictures by another seed.
    """
    settings, request = _settings(plan), plan.request
    device, iters = plan.device, settings.schedule.iters
    assert head.lr is not None  # of a task that trains
    entropy = np.random.SeedSequence((settings.sweep.run_seed, head.seed, done))
    return detectron2_config(
        settings,
        request.source.card,
        weights,
        architecture=request.source.architecture,
        lr=head.lr,
        warmup=_warmup(settings, head),
        device=str(device),
        train=(train,),
        test=(test,),
        workers=default_workers(device) if request.workers is None else request.workers,
        checkpoint_period=min(500, max(10, iters // 20)),  # as our other runs save theirs
        seed=int(entropy.generate_state(1)[0] % 2**31),
        output=str(output),
    )


def _settings(plan: Plan) -> DetectionSettings:
    settings = plan.task.settings
    assert isinstance(settings, DetectionSettings)
    return settings


def _warmup(settings: DetectionSettings, head: HeadSpec) -> WarmupSection | None:
    """Of the grid's point, or of the schedule."""
    first = learning_rate_schedule(settings, head)[0]
    if first["type"] != "LinearLR":
        return None
    return WarmupSection(iters=first["end"], start_factor=first["start_factor"])


class _StopAfterSavingError(BaseException):
    """No Exception: detectron2's trainer would write a traceback of one."""


@dataclass(frozen=True)
class _Run:
    """One run at work."""

    folder: Path
    config: Config
    clock: Clock
    stop: StopFlag
    reporter: Reporter
    name: str


@contextlib.contextmanager
def _logs_in(path: Path) -> Iterator[None]:
    """detectron2's and fvcore's log goes to a file; left alone, it sets itself up on stdout."""
    handler = logging.FileHandler(path)
    handler.setFormatter(logging.Formatter("%(asctime)s %(name)s %(levelname)s: %(message)s"))
    loggers = [logging.getLogger(name) for name in ("detectron2", "fvcore")]
    before = [(logger, logger.level, logger.propagate) for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.INFO)
        logger.propagate = False
        logger.addHandler(handler)
    try:
        yield
    finally:
        for logger, level, propagate in before:
            logger.removeHandler(handler)
            logger.setLevel(level)
            logger.propagate = propagate
        handler.close()


def _register(dataset: DetectionData, pictures: dict[str, Sequence[Any]]) -> None:
    """Put lists of pictures into detectron2's catalogue, in the place of an earlier run's."""
    from detectron2.data import DatasetCatalog, MetadataCatalog

    for name, chosen in pictures.items():
        if name in DatasetCatalog.list():
            DatasetCatalog.remove(name)

        def read(chosen: Sequence[Picture] = chosen) -> list[Config]:
            return dataset_dicts(dataset, chosen)

        DatasetCatalog.register(name, read)
        MetadataCatalog.get(name).set(thing_classes=list(dataset.classes))


def _make_trainer(run: _Run) -> Any:
    """detectron2's DefaultTrainer of a config, at its last checkpoint if there is one."""
    from detectron2.config import get_cfg
    from detectron2.engine import DefaultTrainer
    from detectron2.utils.env import seed_all_rng

    class Trainer(DefaultTrainer):  # type: ignore[misc]
        @classmethod
        def test(cls, cfg: Any, model: Any, evaluators: Any = None) -> dict[str, Any]:
            """Nothing: we score it, when training is over."""
            return {}

    register_extra_norm()
    cfg = get_cfg()
    cfg.merge_from_file(str(run.folder / "config.yaml"))
    cfg.freeze()
    seed_all_rng(cfg.SEED)
    trainer = Trainer(cfg)
    trainer.register_hooks([_progress_hook(run)])
    trainer.resume_or_load(resume=resumes(run.folder, run.reporter.warn))
    return trainer


def _progress_hook(run: _Run) -> Any:
    from detectron2.engine import HookBase

    report: list[Callable[[int], None]] = []
    solver = run.config["SOLVER"]

    class Progress(HookBase):  # type: ignore[misc]
        """Counts and reports iterations; saves and stops where that was asked for."""

        def before_train(self) -> None:
            report.append(run.reporter.stage(f"training {run.name}", solver["MAX_ITER"]))
            run.clock.begin_training()

        def after_step(self) -> None:
            trainer: Any = self.trainer
            done = int(trainer.iter) + 1
            run.clock.step(done, solver["IMS_PER_BATCH"])
            report[-1](done)
            last = done == solver["MAX_ITER"]
            saved = last or done % solver["CHECKPOINT_PERIOD"] == 0
            if run.stop.requested and not last:
                if not saved:
                    trainer.checkpointer.save(f"model_{done - 1:07d}", iteration=done - 1)
                run.clock.save()
                raise _StopAfterSavingError
            if saved:
                run.clock.save()
                prune_checkpoints(run.folder)

    return Progress()


def prune_checkpoints(folder: Path) -> None:
    """Remove all checkpoints but the last that is whole; detectron2's trainer keeps every one."""
    pointer = folder / "last_checkpoint"
    if not pointer.exists():
        return
    last = Path(pointer.read_text().strip()).name
    for path in folder.glob("model_*.pth"):
        if path.name != last:
            path.unlink(missing_ok=True)


def _train_to_the_end(trainer: Any, run: _Run) -> int:
    """Iteration at which the loss stopped being finite, -1 where it never did.

    Raises:
        RunInterruptedError: asked to stop; the state is saved.
    """
    try:
        if trainer.start_iter < trainer.max_iter:
            trainer.train()
    except _StopAfterSavingError:
        raise RunInterruptedError("stopped") from None
    except FloatingPointError:
        return int(trainer.iter)
    return -1 if is_finite(trainer.model) else int(trainer.max_iter) - 1


def _detect(
    trainer: Any, name: str, report: Callable[[int], None], stop: StopFlag
) -> dict[str, Config]:
    """What the trained model finds in a registered list of pictures, by their ids.

    Raises:
        RunInterruptedError: asked to stop.
    """
    model, found = trainer.model, dict[str, Config]()
    model.eval()
    with torch.no_grad():
        for batch in trainer.build_test_loader(trainer.cfg, name):
            for picture, output in zip(batch, model(batch), strict=True):
                found[str(picture["image_id"])] = as_mmdet(output["instances"])
            report(len(found))
            if stop.requested:
                raise RunInterruptedError("stopped")
    return found
