"""What of detectron2's engine needs no detectron2, and its job on a made-up one."""

import dataclasses
import logging
import pickle
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from torch import nn

from tests.reporter import Silent
from tests.tasks.stopping import stop_after
from vicregl_bench.backbones.source import read_backbone
from vicregl_bench.backbones.zoo import find_architecture
from vicregl_bench.checkpoints import Card
from vicregl_bench.data import make_voc_boxes, read_detection
from vicregl_bench.errors import ConfigError, RunInterruptedError
from vicregl_bench.records import read_record
from vicregl_bench.tasks import run as runs
from vicregl_bench.tasks.detection.detectron2_engine import (
    EXTRA_NORM,
    as_mmdet,
    dataset_dicts,
    detectron2_config,
    register_extra_norm,
    require_detectron2,
    to_yaml,
)
from vicregl_bench.tasks.detection.detectron2_job import (
    Detectron2Job,
    prune_checkpoints,
    require_possible,
)
from vicregl_bench.tasks.detection.settings import DetectionSettings
from vicregl_bench.tasks.plan import make_plan
from vicregl_bench.tasks.protocol import config_folder, load_task
from vicregl_bench.tasks.request import RunRequest
from vicregl_bench.tasks.settings import WarmupSection

ROOT = Path(__file__).parents[3]
CARD = Card(method="x", title="X", source="here")
PRESETS = {
    "moco": (0.02, WarmupSection(iters=100, start_factor=0.001)),
    "lars": (0.1, WarmupSection(iters=1000, start_factor=0.333)),
}


def settings(
    profile: str = "paper", preset: str | None = None, **overrides: Any
) -> DetectionSettings:
    changes = {key.replace("__", "."): value for key, value in overrides.items()}
    found = load_task("voc_det_frcnn_c4", profile, changes, preset=preset).settings
    assert isinstance(found, DetectionSettings)
    return found


def config(
    of: DetectionSettings, arch: str = "resnet50", card: Card = CARD, **changes: Any
) -> dict[str, Any]:
    options: dict[str, Any] = {"lr": 0.02, "warmup": PRESETS["moco"][1]} | changes
    return detectron2_config(
        of, card, "backbone.pkl", architecture=find_architecture(arch), **options
    )


def merged(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    both = dict(base)
    for key, value in over.items():
        both[key] = merged(both.get(key, {}), value) if isinstance(value, dict) else value
    return both


def shipped(preset: str) -> dict[str, Any]:
    """A file of eval_configs/detectron2 with its base, as detectron2 puts them together."""
    folder = config_folder() / "detectron2"
    leaf = yaml.safe_load((folder / f"voc_frcnn_c4_{preset}.yaml").read_text())
    return merged(yaml.safe_load((folder / leaf.pop("_BASE_")).read_text()), leaf)


@pytest.mark.parametrize("preset", PRESETS)
def test_the_shipped_files_are_the_papers_profile(preset: str) -> None:
    lr, warmup = PRESETS[preset]
    wanted = config(settings(preset=preset), lr=lr, warmup=warmup)
    assert shipped(preset) == wanted, f"put this into the files:\n{to_yaml(wanted)}"
    assert yaml.safe_load(to_yaml(wanted)) == wanted


@pytest.mark.parametrize("preset", PRESETS)
def test_the_shipped_files_have_the_protocols_numbers(preset: str) -> None:
    # MoCo's detection configs over detectron2's defaults; VICReg, appendix B.3
    found = shipped(preset)
    model, solver, pictures = found["MODEL"], found["SOLVER"], found["INPUT"]
    assert model["BACKBONE"]["FREEZE_AT"] == 0
    assert model["RESNETS"] | {"OUT_FEATURES": None} == {
        "DEPTH": 50,
        "OUT_FEATURES": None,
        "NORM": "SyncBN",
        "STRIDE_IN_1X1": False,
        "WIDTH_PER_GROUP": 64,
        "STEM_OUT_CHANNELS": 64,
        "RES2_OUT_CHANNELS": 256,
    }
    rpn = model["RPN"]
    assert (rpn["PRE_NMS_TOPK_TRAIN"], rpn["POST_NMS_TOPK_TRAIN"]) == (12000, 2000)
    assert (rpn["PRE_NMS_TOPK_TEST"], rpn["POST_NMS_TOPK_TEST"]) == (6000, 1000)
    assert model["ROI_HEADS"]["NAME"] == EXTRA_NORM and model["ROI_HEADS"]["NUM_CLASSES"] == 20
    box_head = model["ROI_BOX_HEAD"]
    assert (box_head["POOLER_TYPE"], box_head["POOLER_RESOLUTION"]) == ("ROIAlignV2", 14)
    assert pictures["FORMAT"] == "RGB" and pictures["MAX_SIZE_TRAIN"] == 1333
    assert pictures["MIN_SIZE_TRAIN"] == list(range(480, 801, 32))
    assert pictures["MIN_SIZE_TEST"] == 800
    assert model["PIXEL_MEAN"] == [123.675, 116.28, 103.53]
    assert model["PIXEL_STD"] == [58.395, 57.12, 57.375]
    assert found["DATASETS"] == {
        "TRAIN": ["voc_2007_trainval", "voc_2012_trainval"],
        "TEST": ["voc_2007_test"],
    }
    assert (solver["IMS_PER_BATCH"], solver["MAX_ITER"]) == (16, 24000)
    assert solver["STEPS"] == [18000, 22000] and solver["GAMMA"] == 0.1
    decays = [solver[key] for key in ("MOMENTUM", "WEIGHT_DECAY", "WEIGHT_DECAY_NORM")]
    assert decays == [0.9, 1e-4, 0.0]
    assert found["TEST"]["PRECISE_BN"] == {"ENABLED": True, "NUM_ITER": 200}
    chosen = rpn["LOSS_WEIGHT"], *(solver[f"{k}"] for k in ("BASE_LR", "WARMUP_ITERS"))
    assert (*chosen, solver["WARMUP_FACTOR"]) == {
        "moco": (1.0, 0.02, 100, 0.001),
        "lars": (0.2, 0.1, 1000, 0.333),
    }[preset]


def test_overrides_reach_the_config() -> None:
    short = settings(
        schedule__iters=60,
        schedule__steps__milestones=[40],
        schedule__batch_size=4,
        sweep__warmups=[{"iters": 5, "start_factor": 0.1}],
        data__short_sides=[96],
        data__test_short_side=96,
        data__flip=0.0,
        precise_bn=3,
        detector__detections=7,
        schedule__optimizer__norm_decay=None,
    )
    found = config(short, lr=1, warmup=None, seed=5, output="there", device="cpu")
    assert found["SOLVER"]["MAX_ITER"] == 60 and found["SOLVER"]["STEPS"] == [40]
    assert found["SOLVER"]["IMS_PER_BATCH"] == 4 and found["SOLVER"]["WARMUP_ITERS"] == 0
    # yacs does not take an integer where detectron2's default is none
    assert type(found["SOLVER"]["BASE_LR"]) is type(found["SOLVER"]["WARMUP_FACTOR"]) is float
    assert found["INPUT"]["MIN_SIZE_TRAIN"] == [96] and found["INPUT"]["RANDOM_FLIP"] == "none"
    assert found["TEST"]["PRECISE_BN"]["NUM_ITER"] == 3
    assert found["TEST"]["DETECTIONS_PER_IMAGE"] == 7
    assert found["SOLVER"]["WEIGHT_DECAY_NORM"] == found["SOLVER"]["WEIGHT_DECAY"] == 1e-4
    assert found["MODEL"]["RESNETS"]["NORM"] == "BN"
    assert (found["SEED"], found["OUTPUT_DIR"]) == (5, "there")


def test_the_card_and_the_architecture_reach_the_config() -> None:
    card = dataclasses.replace(CARD, mean=(1.0, 2.0, 3.0), std=(4.0, 5.0, 6.0), channel_order="bgr")
    model = config(settings(), "resnet101_v1", card)["MODEL"]
    assert model["PIXEL_MEAN"] == [1.0, 2.0, 3.0] and model["PIXEL_STD"] == [4.0, 5.0, 6.0]
    assert config(settings(), card=card)["INPUT"]["FORMAT"] == "BGR"
    assert model["RESNETS"]["DEPTH"] == 101 and model["RESNETS"]["STRIDE_IN_1X1"]
    wide = config(settings(), "resnet50x2")["MODEL"]["RESNETS"]
    narrow = config(settings(), "resnet50x2_narrow")["MODEL"]["RESNETS"]
    keys = ("STEM_OUT_CHANNELS", "WIDTH_PER_GROUP", "RES2_OUT_CHANNELS")
    assert [wide[key] for key in keys] == [128, 128, 512]
    assert [narrow[key] for key in keys] == [64, 128, 256]


@pytest.mark.parametrize("arch", ["convnext_tiny", "vit_small_patch16", "resnet18", "resnet200"])
def test_backbones_it_has_no_detector_of_are_refused(arch: str) -> None:
    with pytest.raises(ConfigError, match=f"{arch}.*mmdet's engine") as error:
        config(settings(), arch)
    assert "\n" not in str(error.value) and error.value.exit_code == 2


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ({"schedule__accumulate": 2}, "schedule.accumulate = 2"),
        ({"data__flip": 0.3}, "data.flip = 0.3"),
    ],
)
def test_settings_it_has_no_key_for_are_refused(override: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=f"--engine detectron2 cannot do {words}"):
        config(settings(**override))


def test_missing_detectron2_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "detectron2", None)
    with pytest.raises(ConfigError) as error:
        require_detectron2()
    text = str(error.value)
    assert "git+https://github.com/facebookresearch/detectron2.git" in text
    assert "--no-build-isolation" in text and "\n" not in text and error.value.exit_code == 2


def test_detectron2_built_for_another_torch_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "detectron2", ModuleType("detectron2"))
    monkeypatch.setitem(sys.modules, "detectron2.engine", None)
    with pytest.raises(ConfigError, match=r"cannot be imported .*build it again") as error:
        require_detectron2()
    assert "\n" not in str(error.value)


def test_pictures_as_detectron2_takes_them(tmp_path: Path) -> None:
    root = make_voc_boxes(tmp_path / "voc", train=6, val=2, seed=0)
    dataset = read_detection("voc_boxes", root)
    found = dataset_dicts(dataset, dataset.train)
    assert len(found) == 6
    difficult = 0
    for picture, entry in zip(dataset.train, found, strict=True):
        content = dataset.annotations(picture)
        difficult += int(content.difficult.sum())
        assert entry["file_name"] == str(picture.image) and entry["image_id"] == picture.name
        assert (entry["height"], entry["width"]) == (120, 160)
        # difficult ones among them, as mmdet's engine trains on them too
        assert [one["category_id"] for one in entry["annotations"]] == content.labels.tolist()
        xml = picture.annotation.read_text()
        for one in entry["annotations"]:
            x1, y1, x2, y2 = one["bbox"]  # the file counts pixels from 1, both ends included
            assert one["bbox_mode"] == 0
            for edge, value in (("xmin", x1 + 1), ("ymin", y1 + 1), ("xmax", x2), ("ymax", y2)):
                assert f"<{edge}>{value:g}</{edge}>" in xml
    assert difficult  # there are some among them


def instances(edges: Any, scores: Any, labels: Any) -> Any:
    """What detectron2's detectors give, as far as it is read."""
    return SimpleNamespace(
        pred_boxes=SimpleNamespace(tensor=torch.tensor(edges, dtype=torch.float32)),
        scores=torch.tensor(scores),
        pred_classes=torch.tensor(labels, dtype=torch.int64),
    )


def test_detections_end_on_their_last_pixel() -> None:
    found = as_mmdet(instances([[0.0, 2.0, 10.5, 20.0]], [0.75], [3]))
    assert found["bboxes"].tolist() == [[0.0, 2.0, 9.5, 19.0]]
    assert found["scores"].tolist() == [0.75] and found["labels"].tolist() == [3]
    empty = as_mmdet(instances([], [], []))
    assert empty["bboxes"].shape == (0, 4) and empty["labels"].shape == (0,)


def test_the_last_whole_checkpoint_stays(tmp_path: Path) -> None:
    for name in ("model_0000009.pth", "model_0000019.pth", "model_0000029.pth"):
        (tmp_path / name).touch()
    prune_checkpoints(tmp_path)
    assert len(list(tmp_path.glob("*.pth"))) == 3  # none is known to be whole
    (tmp_path / "last_checkpoint").write_text("model_0000019.pth")
    prune_checkpoints(tmp_path)
    assert [path.name for path in tmp_path.glob("*.pth")] == ["model_0000019.pth"]


class Node(dict[str, Any]):
    """A config with attributes."""

    def __getattr__(self, name: str) -> Any:
        return self[name]

    def merge_from_file(self, path: str) -> None:
        def nodes(value: Any) -> Any:
            return Node({k: nodes(v) for k, v in value.items()}) if type(value) is dict else value

        self.update(nodes(yaml.safe_load(Path(path).read_text())))

    def freeze(self) -> None:
        pass


class Catalog:
    """detectron2's DatasetCatalog."""

    def __init__(self) -> None:
        self.readers: dict[str, Callable[[], list[dict[str, Any]]]] = {}

    def register(self, name: str, read: Callable[[], list[dict[str, Any]]]) -> None:
        assert name not in self.readers
        self.readers[name] = read

    def remove(self, name: str) -> None:
        del self.readers[name]

    def list(self) -> list[str]:
        return list(self.readers)


class Registry(dict[str, Any]):
    """fvcore's."""

    def register(self, thing: Any) -> None:
        assert thing.__name__ not in self
        self[thing.__name__] = thing


class Heads(nn.Module):
    """detectron2's Res5ROIHeads, as far as anything is added to it."""

    def __init__(self, cfg: Any, input_shape: Any) -> None:
        super().__init__()
        self.res5 = nn.Sequential(nn.Identity())


class HookBase:
    trainer: Any

    def before_train(self) -> None: ...
    def after_train(self) -> None: ...
    def before_step(self) -> None: ...
    def after_step(self) -> None: ...


class Oracle(nn.Module):
    """Finds all that is there, displaced to the right; it has learned that from the truth."""

    def __init__(self, cfg: Any, heads: Heads) -> None:
        super().__init__()
        self.heads, self.shift = heads, 0.0 if cfg.SOLVER.BASE_LR < 0.05 else 12.0
        self.steps = nn.Parameter(torch.zeros(()))

    def forward(self, batch: list[dict[str, Any]]) -> list[dict[str, Any]]:
        assert not self.training and not torch.is_grad_enabled()
        return [{"instances": self.find(picture)} for picture in batch]

    def find(self, picture: dict[str, Any]) -> Any:
        objects = picture["annotations"]
        edges = [np.add(one["bbox"], [self.shift, 0, self.shift, 0]).tolist() for one in objects]
        return instances(edges, [0.9] * len(edges), [one["category_id"] for one in objects])


def made_up_detectron2(told: SimpleNamespace) -> dict[str, Any]:
    """Modules with the names that the engine takes, by detectron2's own rules."""
    catalog, registry = Catalog(), Registry()
    metadata: dict[str, Any] = {}

    class DefaultTrainer:
        def __init__(self, cfg: Any) -> None:
            logger = logging.getLogger("detectron2")
            if not logger.isEnabledFor(logging.INFO):
                logger.setLevel(logging.INFO)
                logger.addHandler(logging.StreamHandler(sys.stdout))
            told.configs.append(cfg)
            self.cfg, self.iter, self.start_iter = cfg, 0, 0
            self.max_iter = cfg.SOLVER.MAX_ITER
            (train,) = cfg.DATASETS.TRAIN
            told.trained_on = catalog.readers[train]()
            self.folder = Path(cfg.OUTPUT_DIR)
            self.model = Oracle(cfg, registry[cfg.MODEL.ROI_HEADS.NAME](cfg, None))
            self.checkpointer = SimpleNamespace(save=self.save)
            self.hooks: list[HookBase] = []

        def save(self, name: str, iteration: int) -> None:
            torch.save({"iteration": iteration}, self.folder / f"{name}.pth")
            (self.folder / "last_checkpoint").write_text(f"{name}.pth")

        def register_hooks(self, hooks: list[Any]) -> None:
            for hook in hooks:
                assert isinstance(hook, HookBase)
                hook.trainer = self
            self.hooks += hooks

        def resume_or_load(self, resume: bool = True) -> None:
            if resume:
                last = (self.folder / "last_checkpoint").read_text()
                self.start_iter = torch.load(self.folder / last)["iteration"] + 1
            else:
                told.weights = pickle.loads(Path(self.cfg.MODEL.WEIGHTS).read_bytes())
            told.starts.append(self.start_iter)

        def train(self) -> None:
            logging.getLogger("detectron2.engine").info("training begins")
            try:
                for hook in self.hooks:
                    hook.before_train()
                for iteration in range(self.start_iter, self.max_iter):
                    self.iter = iteration
                    if self.iter == told.diverges_at:
                        raise FloatingPointError("Loss became infinite or NaN")
                    self.model.train()
                    last = self.iter == self.max_iter - 1
                    if last or (self.iter + 1) % self.cfg.SOLVER.CHECKPOINT_PERIOD == 0:
                        self.save("model_final" if last else f"model_{self.iter:07d}", self.iter)
                    for hook in self.hooks:
                        hook.after_step()
                self.iter += 1
            except Exception as error:
                told.tracebacks.append(error)
                raise
            finally:
                for hook in self.hooks:
                    hook.after_train()
                assert self.test(self.cfg, self.model) == {}

        @classmethod
        def test(cls, cfg: Any, model: Any, evaluators: Any = None) -> Any:
            raise AssertionError("detectron2's own test is not wanted")

        @classmethod
        def build_test_loader(cls, cfg: Any, name: str) -> Iterator[list[dict[str, Any]]]:
            assert metadata[name].thing_classes[0] == "aeroplane"
            return ([picture] for picture in catalog.readers[name]())

    def described(name: str) -> Any:
        return SimpleNamespace(
            set=lambda **values: metadata.__setitem__(name, SimpleNamespace(**values))
        )

    contents: dict[str, dict[str, Any]] = {
        "detectron2": {"__version__": "0.6+made-up"},
        "detectron2.config": {"get_cfg": Node},
        "detectron2.data": {
            "DatasetCatalog": catalog,
            "MetadataCatalog": SimpleNamespace(get=described),
        },
        "detectron2.engine": {"DefaultTrainer": DefaultTrainer, "HookBase": HookBase},
        "detectron2.layers": {
            "get_norm": lambda norm, width: {"BN": nn.BatchNorm2d, "SyncBN": nn.SyncBatchNorm}[
                norm
            ](width)
        },
        "detectron2.modeling": {},
        "detectron2.modeling.roi_heads": {"ROI_HEADS_REGISTRY": registry, "Res5ROIHeads": Heads},
        "detectron2.utils": {},
        "detectron2.utils.env": {"seed_all_rng": told.seeds.append},
    }
    modules = {}
    for name, values in contents.items():
        modules[name] = ModuleType(name)
        vars(modules[name]).update(values)
    return modules


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """What a made-up detectron2 was told; `run_task` trains with it."""
    kept = SimpleNamespace(configs=[], starts=[], seeds=[], tracebacks=[], diverges_at=-1)
    for name, module in made_up_detectron2(kept).items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(runs, "FinetuneJob", Detectron2Job)
    return kept


@pytest.fixture
def request_(tmp_path: Path) -> RunRequest:
    root = make_voc_boxes(tmp_path / "voc", train=8, val=6, seed=0, classes=3)
    changes = {
        "schedule.iters": 30,
        "schedule.steps.milestones": [20],
        "sweep.lrs": [0.02, 0.1],
        "sweep.warmups": [{"iters": 5, "start_factor": 0.1}],
        "sweep.seeds": 1,
    }
    return RunRequest(
        task=load_task("voc_det_frcnn_c4", "ci", changes, arch="resnet50x0.25"),
        source=read_backbone("random:resnet50x0.25"),
        data_root=root,
        out=tmp_path / "records",
        workers=0,
        device="cpu",
    )


def test_the_extra_norm_is_registered_once(told: SimpleNamespace) -> None:
    register_extra_norm()
    register_extra_norm()
    registry = sys.modules["detectron2.modeling.roi_heads"].ROI_HEADS_REGISTRY
    resnets = Node(NORM="BN", RES2_OUT_CHANNELS=256)
    heads = registry[EXTRA_NORM](Node(MODEL=Node(RESNETS=resnets)), None)
    assert [name for name, _ in heads.res5.named_children()] == ["0", "norm"]
    assert heads.res5.norm.num_features == 2048


def test_a_run_gives_our_record(
    told: SimpleNamespace, request_: RunRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    steps: list[tuple[str, int]] = []
    reporter = Silent(lambda name, done: steps.append((name, done)))
    outcome = runs.run_task(request_, reporter)
    record = read_record(outcome.path)
    assert record.status == "complete" and [result.lr for result in record.results] == [0.02, 0.1]
    first, second = record.results
    # boxes that went to detectron2's edges and back are the truth to the pixel
    assert first.scores["ap"] == 100.0 and first.scores["coco_ap"] == 100.0
    assert second.score is not None and second.score < 80.0
    assert record.best is not None and (record.best.lr, record.best.score) == (0.02, 100.0)
    assert first.options == {"warmup.iters": 5, "warmup.start_factor": 0.1}
    # the engine is all that differs: norms without decay and difficult objects are the protocol's
    assert [deviation for deviation in record.deviations if "engine" in deviation] == [
        "engine: detectron2 0.6+made-up instead of mmdet"
    ]
    assert not any(word in str(record.deviations) for word in ("difficult", "decay"))
    assert (record.progress.iterations, record.progress.of) == (60, 60)
    assert record.cost.pictures_per_second is not None
    assert record.frozen_hash_unchanged is None
    assert record.pictures_file is not None and record.predictions_file is not None
    training = [done for name, done in steps if name.startswith("training lr 0.02")]
    assert training == list(range(1, 31))
    assert ("validating lr 0.1, warmup.iters 5, warmup.start_factor 0.1, seed 0 (2 of 2)", 6) in (
        steps
    )
    assert "training begins" not in capsys.readouterr().out
    (log,) = make_plan(request_).work.rglob("lr0.02*/log.txt")
    assert log.read_text().count("training begins") == 1


def test_what_detectron2_is_given(told: SimpleNamespace, request_: RunRequest) -> None:
    runs.run_task(request_, Silent())
    plan = make_plan(request_)
    assert len(told.trained_on) == len(plan.train)
    assert [cfg.SOLVER.BASE_LR for cfg in told.configs] == [0.02, 0.1]
    cfg = told.configs[0]
    assert (cfg.SOLVER.WARMUP_ITERS, cfg.SOLVER.WARMUP_FACTOR) == (5, 0.1)
    assert cfg.MODEL.DEVICE == "cpu" and cfg.MODEL.RESNETS.NORM == "BN"
    assert cfg.DATALOADER.NUM_WORKERS == 0
    assert told.seeds == [cfg.SEED for cfg in told.configs] and told.seeds[0] == told.seeds[1]
    # the weights are those of `convert --to detectron2`, value for value
    weights, own = told.weights["model"], request_.source.state_dict
    assert np.array_equal(weights["res5.0.conv2.weight"], own["layer4.0.conv2.weight"])
    assert np.array_equal(weights["stem.conv1.norm.running_var"], own["bn1.running_var"])
    # a finished run leaves its config and log, and neither weights nor checkpoints
    root = plan.work / "detectron2"
    left = {path.name for path in root.rglob("*") if path.is_file()}
    assert left == {"config.yaml", "log.txt", "lock"}


def test_a_run_that_was_stopped_goes_on(
    told: SimpleNamespace, request_: RunRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "training lr 0.02, warmup.iters 5, warmup.start_factor 0.1, seed 0 (1 of 2)"
    with monkeypatch.context() as patched, pytest.raises(RunInterruptedError, match="17 of 60"):
        runs.run_task(request_, stop_after(patched, name, 17))
    assert told.tracebacks == []  # detectron2 takes it for no failure
    outcome = runs.run_task(request_, Silent())
    assert told.starts == [0, 17, 0]
    assert told.seeds[0] != told.seeds[1]  # else it saw its first pictures again
    assert outcome.record.status == "complete" and outcome.record.progress.iterations == 60
    assert outcome.record.best is not None and outcome.record.best.score == 100.0


def test_a_run_stopped_in_validation_trains_no_more(
    told: SimpleNamespace, request_: RunRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "validating lr 0.02, warmup.iters 5, warmup.start_factor 0.1, seed 0 (1 of 2)"
    with monkeypatch.context() as patched, pytest.raises(RunInterruptedError, match="30 of 60"):
        runs.run_task(request_, stop_after(patched, name, 2))
    outcome = runs.run_task(request_, Silent())
    assert told.starts == [0, 30, 0] and outcome.record.status == "complete"


def test_a_run_that_diverges_has_no_score(told: SimpleNamespace, request_: RunRequest) -> None:
    told.diverges_at = 12
    reporter = Silent()
    record = runs.run_task(request_, reporter).record
    assert record.status == "diverged"
    assert [(result.score, result.diverged_at) for result in record.results] == [(None, 12)] * 2
    assert len(reporter.warnings) >= 2


def test_the_held_out_slice_chooses(told: SimpleNamespace, request_: RunRequest) -> None:
    task = load_task(
        "voc_det_frcnn_c4",
        "ci",
        {
            "schedule.iters": 10,
            "schedule.steps.milestones": [8],
            "sweep.warmups": [{"iters": 5, "start_factor": 0.1}],
            "sweep.lrs": [0.02],
            "sweep.holdout": 0.4,
        },
    )
    request_ = dataclasses.replace(request_, task=task, select="holdout")
    record = runs.run_task(request_, Silent()).record
    assert len(told.trained_on) == record.data.train == 8 - record.data.holdout
    assert record.results[0].holdout == 100.0


def test_other_tasks_and_precisions_are_refused(request_: RunRequest) -> None:
    linear = load_task("voc_det_linear", "ci")
    with pytest.raises(ConfigError, match=r"fine-tuned Faster R-CNN C4.*voc_det_linear"):
        require_possible(make_plan(dataclasses.replace(request_, task=linear)))
    with pytest.raises(ConfigError, match=r"fp32.*not bf16"):
        require_possible(make_plan(dataclasses.replace(request_, precision="bf16")))
    vit = load_task("voc_det_frcnn_c4", "ci", family="vit", arch="vit_tiny_patch16")
    source = read_backbone("random:vit_tiny_patch16")
    with pytest.raises(ConfigError, match="ResNets alone, and vit_tiny_patch16"):
        require_possible(make_plan(dataclasses.replace(request_, task=vit, source=source)))


def test_the_pages_training_script_is_python() -> None:
    page = (ROOT / "docs" / "detectron2.md").read_text()
    script = page.split("```python\n")[1].split("```")[0]
    compile(script, "docs/detectron2.md", "exec")
    assert "register_extra_norm()" in script
    for preset in PRESETS:
        assert f"voc_frcnn_c4_{preset}.yaml" in page
