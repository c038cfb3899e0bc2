"""What a documented command gets besides its own words, so that it takes seconds."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from vicregl_bench.tasks.protocol import protocol_info

TINY = "random:resnet18x0.25"
PLACEHOLDERS = {"N": "12", "S": "0"}  # of `data make`

SEGMENTATION: dict[str, Any] = {
    "data.crop": [64, 64],
    "data.resize": [256, 64],
    "data.test_resize": [256, 64],
    "schedule.iters": 2,
    "schedule.batch_size": 2,
    "sweep.lrs": [0.02],
    "sweep.seeds": 1,
}
_FCN = SEGMENTATION | {"fcn.channels": 16, "fcn.auxiliary.channels": 8}
_DETECTION: dict[str, Any] = {
    "data.short_sides": [64],
    "data.test_short_side": 64,
    "data.longest": 128,
    "schedule.iters": 3,  # one more than the shortest warm-up
    "schedule.steps.milestones": [2],
    "schedule.batch_size": 2,
    "detector.anchors": 32,
    "detector.proposals_train": [60, 30],
    "detector.proposals_test": [60, 20],
    "detector.regions": 16,
    "detector.detections": 20,
    "sweep.lrs": [0.002],
    "sweep.seeds": 1,
}
CLASSIFICATION: dict[str, Any] = {"data.crop": 48, "data.resize": [56, 56]}
_SETTINGS: dict[str, dict[str, Any]] = {
    "segmentation_linear_frozen": SEGMENTATION,
    "segmentation_linear_finetuned": SEGMENTATION,
    "segmentation_fcn_frozen": _FCN,
    "segmentation_fcn_finetuned": _FCN,
    "detection_linear_frozen": _DETECTION | {"schedule.warmup.iters": 2},
    "detection_c4_finetuned": _DETECTION
    | {"precise_bn": 1, "sweep.warmups": [{"iters": 2, "start_factor": 0.1}]},
    "detection_mask_rcnn_finetuned": _DETECTION | {"schedule.warmup.iters": 2},
    "classification_linear_frozen": CLASSIFICATION
    | {"schedule.epochs": 1, "schedule.batch_size": 8, "sweep.seeds": 1},
    "classification_finetuned": CLASSIFICATION
    | {"schedule.iters": 2, "schedule.batch_size": 8, "sweep.seeds": 1},
    "classification_knn_probe": CLASSIFICATION,
    "classification_linear_probe": CLASSIFICATION,
    "classification_search_probe": CLASSIFICATION
    | {"search.trials": 2, "search.epochs": [1, 2], "sweep.seeds": 1, "sweep.holdout": 0.3},
    "classification_svm_probe": {"data.crop": 48, "data.resize": 48},
    "segmentation_knn_probe": {"data.side": 64, "memory.size": 240, "knn.ks": [5]},
    "correspondence_probe": {"views.size": 64, "sweep.seeds": 1},
}
_PRETRAIN: dict[str, Any] = {
    "views.large_size": 64,
    "views.small_count": 0,
    "model.backbone": "resnet18x0.25",
    "model.expander": [32, 32],
    "model.projector": [16, 16],
    "criterion.num_matches": [2, 1],
    "schedule.epochs": 1,
    "schedule.warmup_epochs": 0,
    "schedule.batch_size": 8,
}


def shorten(words: Sequence[str]) -> list[str]:
    """The words of a command behind `vicregl-bench`, shortened.

    `run` gets profile `ci`, tiny settings of its kind of task and a tiny backbone in place of
    another random one; `pretrain` one epoch of tiny views. A setting that the command itself gives
    stays as it is. All others keep their words.
    """
    words = [PLACEHOLDERS.get(word, word) for word in words]
    if "--help" in words or words[0] not in ("run", "pretrain"):
        return words
    if words[0] == "pretrain":
        more = ["--subset", "5"] if "--subset" in words else []
        return [*words, *_set(_PRETRAIN, words), *more, "--workers", "0", "--device", "cpu"]
    words = [TINY if word.startswith("random:") else word for word in words]
    settings = _SETTINGS[protocol_info(words[words.index("--task") + 1]).kind]
    profile = ["--profile", "ci", "--workers", "0", "--device", "cpu"]
    return [*words, *_set(settings, words), *profile]


def _set(settings: Mapping[str, Any], words: Sequence[str]) -> list[str]:
    given = {word.partition("=")[0] for word in words}
    return [
        word
        for key, value in settings.items()
        if key not in given
        for word in ("--set", f"{key}={json.dumps(value)}")
    ]
