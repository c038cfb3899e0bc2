"""Files built here in the layouts that methods publish.

`LAYOUTS` has them all, around any canonical state dict; see `Layout`. Key names and the entries
beside the weights follow each method's code, named in its reader. Heads, queues and images of the
optimiser are small; a momentum branch has other values than its twin.

The ResNets of `resnet_shapes` are narrow: every width is a sixteenth, so a file takes a few
hundred KiB.
"""

import argparse
import pickle
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torchvision
from safetensors.torch import save_file
from torch import Tensor

Shapes = dict[str, tuple[int, ...]]
State = Mapping[str, Tensor]


def resnet_shapes(arch: str, *, head: bool = False) -> Shapes:
    with torch.device("meta"):
        state = getattr(torchvision.models, arch)().state_dict()
    return {
        key: tuple(size // 16 if size >= 64 else size for size in value.shape)
        for key, value in state.items()
        if head or not key.startswith("fc.")
    }


def vit_shapes(
    width: int = 4, *, patch: int = 2, layer_scale: bool = False, registers: int = 0
) -> Shapes:
    """Two blocks of a ViT in timm's names, with positions of 2 x 2 patches."""
    shapes: Shapes = {"cls_token": (1, 1, width)}
    if registers:
        shapes["reg_token"] = (1, registers, width)
    shapes |= {
        "pos_embed": (1, 4 if registers else 5, width),
        "patch_embed.proj.weight": (width, 3, patch, patch),
        "patch_embed.proj.bias": (width,),
    }
    for block in ("blocks.0.", "blocks.1."):
        linear = {"attn.qkv": (3, 1), "attn.proj": (1, 1), "mlp.fc1": (4, 1), "mlp.fc2": (1, 4)}
        for name, (out, into) in linear.items():
            shapes[f"{block}{name}.weight"] = (out * width, into * width)
            shapes[f"{block}{name}.bias"] = (out * width,)
        for name in ("norm1.weight", "norm1.bias", "norm2.weight", "norm2.bias"):
            shapes[block + name] = (width,)
        for name in ("ls1.gamma", "ls2.gamma") if layer_scale else ():
            shapes[block + name] = (width,)
    return shapes | {"norm.weight": (width,), "norm.bias": (width,)}


def convnext_shapes(width: int = 2, *, layer_scale: bool = False) -> Shapes:
    """A ConvNeXt of one block a stage in timm's names."""
    shapes: Shapes = {}

    def module(name: str, *weight: int) -> None:
        shapes[f"{name}.weight"], shapes[f"{name}.bias"] = weight, weight[:1]

    for stage, size in enumerate(width * 2**stage for stage in range(4)):
        if stage == 0:
            module("stem.0", size, 3, 4, 4)
            module("stem.1", size)
        else:
            module(f"stages.{stage}.downsample.0", size // 2)
            module(f"stages.{stage}.downsample.1", size, size // 2, 2, 2)
        block = f"stages.{stage}.blocks.0"
        module(f"{block}.conv_dw", size, 1, 7, 7)
        module(f"{block}.norm", size)
        module(f"{block}.mlp.fc1", 4 * size, size)
        module(f"{block}.mlp.fc2", size, 4 * size)
        if layer_scale:
            shapes[f"{block}.gamma"] = (size,)
    module("head.norm", 8 * width)
    return shapes


def make_state(shapes: Shapes, seed: int = 0) -> dict[str, Tensor]:
    """Random values that are exact in half precision."""
    generator = torch.Generator().manual_seed(seed)
    return OrderedDict(
        (key, torch.tensor(seed + 1))
        if key.endswith("num_batches_tracked")
        else (key, _values(key, torch.randn(shape, generator=generator).half().float()))
        for key, shape in shapes.items()
    )


def _values(key: str, drawn: Tensor) -> Tensor:
    return drawn.abs() if key.endswith("running_var") else drawn


def prefixed(state: State, prefix: str) -> dict[str, Tensor]:
    return {prefix + key: value for key, value in state.items()}


def mlp(prefix: str, seed: int) -> dict[str, Tensor]:
    """Linear, BatchNorm, ReLU, Linear without bias: the expanders of VICReg and VICRegL."""
    shapes: Shapes = {
        "0.weight": (8, 8),
        "0.bias": (8,),
        "1.weight": (8,),
        "1.bias": (8,),
        "1.running_mean": (8,),
        "1.running_var": (8,),
        "1.num_batches_tracked": (),
        "3.weight": (8, 8),
    }
    return prefixed(make_state(shapes, seed), prefix)


def optimizer_state(state: State, slot: str = "mu") -> dict[str, Any]:
    """State by parameter number, each tensor as large as the parameter it belongs to."""
    return {
        "state": {number: {slot: value.clone()} for number, value in enumerate(state.values())},
        "param_groups": [{"lr": 0.1, "params": list(range(len(state)))}],
    }


def vicregl_full(backbone: State, alpha: float = 0.75) -> dict[str, Any]:
    model = prefixed(backbone, "module.backbone.")
    if alpha < 1:
        model |= mlp("module.maps_projector.", 11)
    if alpha > 0:
        model |= mlp("module.projector.", 12)
    model |= {
        "module.classifier.weight": torch.ones(10, 8),
        "module.classifier.bias": torch.ones(10),
    }
    return {"epoch": 300, "model": model, "optimizer": optimizer_state(backbone)}


def vicreg_full(backbone: State) -> dict[str, Any]:
    model = prefixed(backbone, "module.backbone.") | mlp("module.projector.", 13)
    return {"epoch": 1000, "model": model, "optimizer": optimizer_state(backbone)}


def barlow_full(backbone: State) -> dict[str, Any]:
    """VICReg's layout with a parameter-free BatchNorm after the projector."""
    full = vicreg_full(backbone)
    full["model"] |= {
        "module.bn.running_mean": torch.zeros(8),
        "module.bn.running_var": torch.ones(8),
    }
    return full


def with_namespace(state: State) -> dict[str, Any]:
    """A training checkpoint that carries its parsed arguments, as PixPro's does."""
    return {
        "opt": argparse.Namespace(arch="resnet18", lr=0.5),
        "model": prefixed(state, "module."),
    }


def other(state: State, seed: int = 0) -> dict[str, Tensor]:
    """The twin of a branch, e.g. its momentum encoder: the same keys and shapes, other values."""
    return {key: value + 1 + seed for key, value in state.items()}


def fc(prefix: str, layers: int = 2) -> dict[str, Tensor]:
    """Linear, or linear, ReLU, linear, as MoCo v1 and v2 put them in a ResNet's place of `fc`."""
    names = ("0.", "2.") if layers == 2 else ("",)
    return {
        f"{prefix}{name}{part}": torch.ones(shape)
        for name in names
        for part, shape in (("weight", (4, 4)), ("bias", (4,)))
    }


def queue(prefix: str, name: str = "queue") -> dict[str, Tensor]:
    return {f"{prefix}{name}": torch.ones(4, 16), f"{prefix}{name}_ptr": torch.zeros(1).long()}


def moco_v2_full(state: State, seed: int = 0, wrapper: str = "module.") -> dict[str, Any]:
    weights = prefixed(state, f"{wrapper}encoder_q.") | fc(f"{wrapper}encoder_q.fc.")
    weights |= prefixed(other(state, seed), f"{wrapper}encoder_k.") | fc(f"{wrapper}encoder_k.fc.")
    weights |= queue(wrapper)
    optimizer = optimizer_state(state)
    return {"epoch": 200, "arch": "resnet50", "state_dict": weights, "optimizer": optimizer}


def moco_v3_full(
    state: State, seed: int = 0, *, head: str = "head", wrapper: str = "module."
) -> dict[str, Any]:
    """`head` is what the projector replaces: `head` in ViTs, `fc` in ResNets."""
    base, momentum = f"{wrapper}base_encoder.", f"{wrapper}momentum_encoder."
    weights = prefixed(state, base) | mlp(f"{base}{head}.", 21)
    weights |= prefixed(other(state, seed), momentum) | mlp(f"{momentum}{head}.", 22)
    weights |= mlp(f"{wrapper}predictor.", 23)
    rest = {"optimizer": optimizer_state(state), "scaler": {"scale": 65536.0}}
    return {"epoch": 300, "arch": "vit_small", "state_dict": weights, **rest}


def simclr_converted(state: State, seed: int = 0) -> dict[str, Any]:
    return {"state_dict": {**state, **fc("fc.", 1)}}


def vissl_full(state: State, seed: int = 0) -> dict[str, Any]:
    heads = {"0.clf.0.weight": torch.ones(4, 4), "0.clf.0.bias": torch.ones(4)}
    model = {"trunk": prefixed(state, "_feature_blocks."), "heads": heads}
    base = {"model": model, "meters": {"test": {}}}
    classy = {"base_model": base, "optimizer": {"optim": optimizer_state(state)}, "loss": {}}
    return {
        "phase_idx": 99,
        "iteration": 31300,
        "type": "consolidated",
        "classy_state_dict": classy,
    }


def swav_released(state: State, seed: int = 0, wrapper: str = "module.") -> dict[str, Any]:
    prototypes = {f"{wrapper}prototypes.weight": torch.ones(16, 4)}
    return prefixed(state, wrapper) | mlp(f"{wrapper}projection_head.", 31) | prototypes


def byol_converted(state: State, seed: int = 0) -> dict[str, Any]:
    """What converters of DeepMind's release leave: no container, no prefix, no counters."""
    return {key: value for key, value in state.items() if not key.endswith("num_batches_tracked")}


_CHILDREN = ("conv1", "bn1", "", "", "layer1", "layer2", "layer3", "layer4")


def numbered(state: State) -> dict[str, Tensor]:
    """A ResNet as nn.Sequential of its children: 0, 1, 4, 5, 6, 7."""
    return {
        f"{_CHILDREN.index(key.partition('.')[0])}.{key.partition('.')[2]}": value
        for key, value in state.items()
    }


def byol_pytorch(state: State, seed: int = 0, wrapper: str = "module.") -> dict[str, Any]:
    weights: dict[str, Tensor] = {}
    for name, branch in (("online", state), ("target", other(state, seed))):
        weights |= prefixed(numbered(branch), f"{wrapper}{name}_network.encoder.")
        weights |= mlp(f"{wrapper}{name}_network.projetion.", 41)
    weights |= mlp(f"{wrapper}predictor.predictor.", 42)
    rest = {"epoch": 300, "steps": 93600, "optimizer": optimizer_state(state), "amp": {}}
    return {"config": {"model": {"base_momentum": 0.99}}, "model": weights, **rest}


def pixpro_released(state: State, seed: int = 0, wrapper: str = "module.") -> dict[str, Any]:
    model = prefixed(state, f"{wrapper}encoder.") | mlp(f"{wrapper}projector.", 51)
    model |= prefixed(other(state, seed), f"{wrapper}encoder_k.")
    model |= mlp(f"{wrapper}projector_k.", 52)
    model |= {f"{wrapper}value_transform.weight": torch.ones(4, 4, 1, 1)}
    return {"model": model}


def pixpro_full(state: State, seed: int = 0) -> dict[str, Any]:
    options = argparse.Namespace(arch="resnet50", model="PixPro", pixpro_p=2.0)
    rest = {"optimizer": optimizer_state(state), "scheduler": {"T_max": 3}, "epoch": 400}
    return {"opt": options, **pixpro_released(state, seed), **rest, "amp": {}}


def densecl_raw(state: State, seed: int = 0) -> dict[str, Any]:
    weights = prefixed(state, "encoder_q.0.") | mlp("encoder_q.1.mlp.", 61)
    weights |= mlp("encoder_q.1.mlp2.", 62) | prefixed(other(state, seed), "encoder_k.0.")
    weights |= mlp("encoder_k.1.mlp.", 63) | mlp("encoder_k.1.mlp2.", 64)
    weights |= prefixed(state, "backbone.") | queue("") | queue("", "queue2")
    return {"meta": {"epoch": 200}, "state_dict": weights, "optimizer": optimizer_state(state)}


def densecl_extracted(state: State, seed: int = 0) -> dict[str, Any]:
    return {"state_dict": dict(state), "author": "DenseCL"}


_HAIKU_LEAVES = {
    "weight": ("scale", ""),
    "bias": ("offset", ""),
    "running_mean": ("average", "/~/mean_ema"),
    "running_var": ("average", "/~/var_ema"),
}


def haiku_trees(state: State, network: str = "res_net50") -> tuple[dict[str, Any], dict[str, Any]]:
    """Parameters and moving averages of a ResNet: module -> name -> NumPy array.

    Kernels are HWIO, BatchNorm's vectors (1, 1, 1, C); beside each average lie the hidden sum and
    the counter that it was corrected with.
    """
    params: dict[str, dict[str, Any]] = {}
    averages: dict[str, dict[str, Any]] = {}
    for key, value in state.items():
        *path, leaf = key.split(".")
        if leaf == "num_batches_tracked":
            continue
        if path[0].startswith("layer"):
            lead = f"block_group_{int(path[0][5:]) - 1}/~/block_{path[1]}/~/"
            part = "shortcut_" + ("conv", "batchnorm")[int(path[3])] if len(path) > 3 else path[2]
        else:
            lead, part = "", f"initial_{path[0][:-1]}"
        if not part.startswith(("shortcut", "initial")):
            part = f"{part[:-1]}_{int(part[-1]) - 1}"
        module = f"{network}/~/{lead}{part.replace('bn', 'batchnorm')}"
        if value.ndim == 4:
            params[module] = {"w": value.permute(2, 3, 1, 0).numpy()}
            continue
        name, inside = _HAIKU_LEAVES[leaf]
        array = value.reshape(1, 1, 1, -1).numpy()
        if inside:
            beside = {"counter": np.array(7, dtype=np.int32), "hidden": array * 0.5}
            averages[module + inside] = {**beside, name: array}
        else:
            params.setdefault(module, {})[name] = array
    return params, averages


def detcon_released(state: State, seed: int = 0) -> dict[str, Any]:
    params, averages = haiku_trees(state)
    for head in ("projector", "predictor"):
        params[f"{head}/linear"] = {"w": np.ones((4, 4), np.float32), "b": np.ones(4, np.float32)}
    params["classifier"] = {"w": np.ones((4, 10), np.float32), "b": np.ones(10, np.float32)}
    return {"params": params, "state": averages}


def _c4(state: State, backbone: str, stage: str) -> dict[str, Tensor]:
    """Put the last stage into the head."""
    return {
        stage + key.removeprefix("layer4.") if key.startswith("layer4.") else backbone + key: value
        for key, value in state.items()
    }


def insloc_full(state: State, seed: int = 0, *, fpn: bool = False) -> dict[str, Any]:
    weights: dict[str, Tensor] = {}
    for suffix, branch in (("", state), ("_k", other(state, seed))):
        if fpn:
            weights |= prefixed(branch, f"backbone{suffix}.")
            weights[f"neck{suffix}.lateral_convs.0.conv.weight"] = torch.ones(4, 4, 1, 1)
        else:
            last = f"roi_head{suffix}.shared_head.layer4."
            weights |= _c4(branch, f"backbone{suffix}.", last)
        weights[f"roi_head{suffix}.bbox_head.shared_fcs.0.weight"] = torch.ones(4, 4)
    weights |= queue("") | {"queues": torch.ones(1, 4, 16)}
    return {"meta": {"epoch": 400}, "state_dict": weights, "optimizer": optimizer_state(state)}


def cp2_full(state: State, seed: int = 0, wrapper: str = "module.") -> dict[str, Any]:
    weights: dict[str, Tensor] = {}
    for name, branch in (("encoder_q", state), ("encoder_k", other(state, seed))):
        weights |= prefixed(branch, f"{wrapper}{name}.backbone.")
        weights[f"{wrapper}{name}.decode_head.conv_seg.weight"] = torch.ones(4, 4, 1, 1)
    weights |= queue(wrapper)
    return {"epoch": 200, "state_dict": weights, "optimizer": optimizer_state(state)}


_PYRAMID = ("fpn_lateral5", "fpn_lateral4", "fpn_output4", "fpn_lateral3", "fpn_output3")


def resim_full(state: State, seed: int = 0, wrapper: str = "module.") -> dict[str, Any]:
    full = moco_v2_full(state, seed, wrapper)
    for name in ("encoder_q", "encoder_k"):
        for part in _PYRAMID:
            full["state_dict"][f"{wrapper}{name}.{part}.weight"] = torch.ones(4, 4, 1, 1)
    return full


def detectron2_names(state: State) -> dict[str, Any]:
    """As the converters do it: string replacements, NumPy arrays, no counters."""
    renamed = {}
    for key, value in state.items():
        if key.endswith("num_batches_tracked"):
            continue
        if "layer" not in key:
            key = f"stem.{key}"
        for number in (1, 2, 3, 4):
            key = key.replace(f"layer{number}", f"res{number + 1}")
            key = key.replace(f"bn{number}", f"conv{number}.norm")
        key = key.replace("downsample.0", "shortcut").replace("downsample.1", "shortcut.norm")
        renamed[key] = value.numpy()
    return renamed


def detectron2_converted(state: State, seed: int = 0) -> dict[str, Any]:
    model = detectron2_names({**state, **fc("fc.", 1)})
    return {"model": model, "__author__": "MOCO", "matching_heuristics": True}


def resim_converted(state: State, seed: int = 0) -> dict[str, Any]:
    full = detectron2_converted(state, seed)
    for part in _PYRAMID:
        full["model"][f"backbone.{part}.weight"] = np.ones((4, 4, 1, 1), np.float32)
    return full


def detectron2_detector(state: State, seed: int = 0, *, fpn: bool = False) -> dict[str, Any]:
    backbone = "backbone.bottom_up." if fpn else "backbone."
    model = {}
    for key, value in detectron2_names(state).items():
        lead = "roi_heads." if key.startswith("res5.") and not fpn else backbone
        model[lead + key] = value
    ones = np.ones((4, 4, 1, 1), np.float32)
    model |= {
        "proposal_generator.rpn_head.conv.weight": ones,
        "roi_heads.box_predictor.cls_score.weight": ones[:, :, 0, 0],
    }
    if fpn:
        model["backbone.fpn_lateral2.weight"] = ones
    return {"model": model, "__author__": "Detectron2 Model Zoo"}


def dino_head(prefix: str) -> dict[str, Tensor]:
    return mlp(f"{prefix}mlp.", 71) | {
        f"{prefix}last_layer.weight_g": torch.ones(16, 1),
        f"{prefix}last_layer.weight_v": torch.ones(16, 4),
    }


def dino_full(state: State, seed: int = 0, wrapper: str = "") -> dict[str, Any]:
    """`wrapper` is the teacher's: `module.` of networks with BatchNorm; the student has it."""
    student = prefixed(other(state, seed), "module.backbone.") | dino_head("module.head.")
    teacher = prefixed(state, f"{wrapper}backbone.") | dino_head(f"{wrapper}head.")
    return {
        "student": student,
        "teacher": teacher,
        "optimizer": optimizer_state(state, "exp_avg"),
        "epoch": 100,
        "args": argparse.Namespace(arch="vit_small", patch_size=16),
        "dino_loss": {"center": torch.zeros(1, 16)},
        "fp16_scaler": {"scale": 65536.0},
    }


def ibot_full(state: State, seed: int = 0) -> dict[str, Any]:
    full = dino_full(state, seed)
    full["student"]["module.backbone.masked_embed"] = torch.zeros(1, 4)
    full["student"] |= dino_head("module.head.last_layer2.")
    full["ibot_loss"] = full.pop("dino_loss") | {"center2": torch.zeros(1, 1, 16)}
    return full


def ibot_teacher(state: State, seed: int = 0) -> dict[str, Any]:
    return {"state_dict": dict(state)}


def dinov2_released(state: State, seed: int = 0) -> dict[str, Any]:
    """Of models with registers, the class token has a position too, which timm adds to it."""
    released = {"mask_token": torch.zeros(1, 4), **state}
    registers = released.pop("reg_token", None)
    if registers is not None:
        half = state["cls_token"] / 2
        released |= {"register_tokens": registers, "cls_token": half}
        released["pos_embed"] = torch.cat([half, state["pos_embed"]], dim=1)
    return released


def dinov2_teacher(state: State, seed: int = 0) -> dict[str, Any]:
    """Of a training: blocks in chunks of one, keyed by chunk and by number among all."""
    chunked = {}
    for key, value in dinov2_released(state).items():
        number = key.split(".")[1] if key.startswith("blocks.") else ""
        chunked[key.replace("blocks.", f"blocks.{number}.", 1) if number else key] = value
    return {"teacher": prefixed(chunked, "backbone.") | dino_head("dino_head.")}


def mae_released(state: State, seed: int = 0) -> dict[str, Any]:
    return {"model": dict(state)}


def mae_full(state: State, seed: int = 0) -> dict[str, Any]:
    decoder = {
        "mask_token": torch.zeros(1, 1, 4),
        "decoder_pos_embed": torch.zeros(1, 5, 4),
        "decoder_embed.weight": torch.ones(4, 4),
        "decoder_blocks.0.norm1.weight": torch.ones(4),
        "decoder_norm.weight": torch.ones(4),
        "decoder_pred.weight": torch.ones(12, 4),
    }
    return {
        "model": {**state, **decoder},
        "optimizer": optimizer_state(state, "exp_avg"),
        "epoch": 799,
        "scaler": {"scale": 65536.0},
        "args": argparse.Namespace(model="mae_vit_base_patch16", mask_ratio=0.75),
    }


def timm_training(
    state: State, seed: int = 0, wrapper: str = "", average: str = "state_dict_ema"
) -> dict[str, Any]:
    return {
        "epoch": 299,
        "arch": "resnet50",
        "state_dict": prefixed({**other(state, seed), **fc("fc.", 1)}, wrapper),
        "optimizer": optimizer_state(state, "momentum_buffer"),
        "version": 2,
        "args": argparse.Namespace(model="resnet50", lr=0.5),
        average: prefixed({**state, **fc("fc.", 1)}, wrapper),
        "metric": 78.1,
    }


def timm_released(state: State, seed: int = 0, head: str = "head") -> dict[str, Any]:
    return {**state, f"{head}.weight": torch.ones(10, 4), f"{head}.bias": torch.ones(10)}


def lightning(weights: State, **rest: Any) -> dict[str, Any]:
    loops = {"fit_loop": {"state_dict": {}}}
    return {
        "epoch": 100,
        "global_step": 500400,
        "pytorch-lightning_version": "2.1.2",
        "state_dict": dict(weights),
        "loops": loops,
        "callbacks": {"ModelCheckpoint": {"best_model_score": torch.tensor(0.7)}},
        "optimizer_states": [optimizer_state(weights)],
        "lr_schedulers": [],
        **rest,
    }


def solo_learn_full(state: State, seed: int = 0, name: str = "backbone") -> dict[str, Any]:
    weights = prefixed(state, f"{name}.") | fc("classifier.", 1) | mlp("projector.", 81)
    weights |= prefixed(other(state, seed), f"momentum_{name}.") | mlp("momentum_projector.", 82)
    return lightning(weights | mlp("predictor.", 83), hyper_parameters={"method": "byol"})


def lightly_example(state: State, seed: int = 0) -> dict[str, Any]:
    weights = prefixed(numbered(state), "backbone.") | mlp("projection_head.layers.", 91)
    weights |= prefixed(numbered(other(state, seed)), "backbone_momentum.")
    return lightning(weights | mlp("projection_head_momentum.layers.", 92))


def lightly_benchmark(state: State, seed: int = 0) -> dict[str, Any]:
    """MoCo's: `backbone` is the key encoder there."""
    weights = prefixed(other(state, seed), "backbone.") | mlp("projection_head.layers.", 93)
    weights |= prefixed(state, "query_backbone.") | mlp("query_projection_head.layers.", 94)
    return lightning(weights | fc("online_classifier.linear.", 1))


def lightly_dino(state: State, seed: int = 0) -> dict[str, Any]:
    weights = prefixed(numbered(other(state, seed)), "student_backbone.")
    weights |= prefixed(numbered(state), "teacher_backbone.")
    return lightning(weights | mlp("student_head.layers.", 95) | mlp("teacher_head.layers.", 96))


def mmselfsup_moco(state: State, seed: int = 0) -> dict[str, Any]:
    neck = mlp("", 97)
    weights = (
        prefixed(state, "backbone.") | prefixed(neck, "neck.") | prefixed(state, "encoder_q.0.")
    )
    weights |= prefixed(neck, "encoder_q.1.") | prefixed(other(state, seed), "encoder_k.module.0.")
    weights |= prefixed(neck, "encoder_k.module.1.") | queue("")
    return {"meta": {"epoch": 200}, "state_dict": weights, "optimizer": optimizer_state(state)}


def mmselfsup_byol(state: State, seed: int = 0) -> dict[str, Any]:
    weights = prefixed(state, "backbone.") | mlp("neck.", 98) | mlp("head.predictor.", 99)
    weights |= prefixed(other(state, seed), "target_net.module.0.")
    return {"meta": {"epoch": 200}, "state_dict": weights, "message_hub": {}}


def convnext_original(state: State) -> dict[str, Tensor]:
    """The names of Liu et al.'s code."""
    renamed = {}
    for key, value in state.items():
        parts = key.split(".")
        if parts[0] == "stem":
            parts[0] = "downsample_layers.0"
        elif parts[0] == "stages" and parts[2] == "downsample":
            parts[:3] = ["downsample_layers", parts[1]]
        elif parts[0] == "stages":
            del parts[2]
        else:
            del parts[0]
        name = ".".join(parts).replace("conv_dw", "dwconv").replace("mlp.fc", "pwconv")
        renamed[name] = value
    return renamed


def convnext_classifier(state: State, seed: int = 0) -> dict[str, Any]:
    """Supervised weights of facebookresearch/ConvNeXt: `head` is the classifier."""
    return {"model": {**convnext_original(state), **fc("head.", 1)}}


Save = Callable[[Any, Path], None]


def _save_pickle(content: Any, path: Path) -> None:
    with path.open("wb") as stream:
        pickle.dump(content, stream)


def _save_npy(content: Any, path: Path) -> None:
    np.save(path, np.array(content, dtype=object), allow_pickle=True)


def _save_safetensors(content: Any, path: Path) -> None:
    save_file({key: value.contiguous() for key, value in content.items()}, path)


@dataclass(frozen=True)
class Layout:
    """One way in which a method's checkpoints are laid out.

    Attributes:
        method: whose reader reads it.
        arch: of the fixture that goes with it.
        make: content of the file from a backbone's canonical state dict and a seed, on which the
            values of momentum branches depend.
        address: container and prefix where `make` puts the state dict that it is given.
        detected: the method that the keys alone tell; not always `method`.
        family: of the backbone.
        save: writes the content.
        suffix: of the file's name.
        pooling: that the method's code evaluates; None is the family's own.
        output_norm: whether the method's code norms a ViT's maps.
    """

    method: str
    arch: str
    make: Callable[[State, int], Any]
    address: str
    detected: str
    save: Save = torch.save
    suffix: str = ".pth"
    pooling: Literal["avg", "cls"] | None = None
    output_norm: bool = False

    @property
    def family(self) -> str:
        return next(name for name in ("resnet", "vit", "convnext") if self.arch.startswith(name))


_R18, _TINY = "resnet18x0.25", "vit_tiny_patch16"


def _resnet(method: str, make: Callable[..., Any], address: str, **more: Any) -> Layout:
    return Layout(method, _R18, make, address, **{"detected": method, **more})


def _vit(method: str, make: Callable[..., Any], address: str, **more: Any) -> Layout:
    return Layout(method, _TINY, make, address, **{"detected": method, **more})


def _dinov2(make: Callable[..., Any], address: str, registers: str = "") -> Layout:
    arch = f"vit_small_patch14{registers}_dinov2"
    return Layout("dinov2", arch, make, address, "dinov2", output_norm=True)


def _bare(state: State, seed: int) -> dict[str, Tensor]:
    return dict(state)


_PKL: dict[str, Any] = {"save": _save_pickle, "suffix": ".pkl"}

LAYOUTS: dict[str, Layout] = {
    "vicregl": _resnet("vicregl", lambda s, _: vicregl_full(s), "model.module.backbone."),
    "vicregl_convnext": Layout(
        "vicregl",
        "convnext_atto_no_layerscale",
        lambda s, _: vicregl_full(convnext_original(s)),
        "model.module.backbone.",
        "vicregl",
    ),
    "vicregl_released": _resnet("vicregl", _bare, "", detected="bare"),
    "vicreg": _resnet("vicreg", lambda s, _: vicreg_full(s), "model.module.backbone."),
    "barlow_twins": _resnet("barlow_twins", lambda s, _: barlow_full(s), "model.module.backbone."),
    "moco_v2": _resnet("moco_v2", moco_v2_full, "state_dict.module.encoder_q."),
    "moco_v2_one_gpu": _resnet(
        "moco_v2", lambda s, seed: moco_v2_full(s, seed, ""), "state_dict.encoder_q."
    ),
    "moco_v3": Layout(
        "moco_v3",
        "vit_small_patch16_12heads",
        moco_v3_full,
        "state_dict.module.base_encoder.",
        "moco_v3",
    ),
    "moco_v3_resnet": _resnet(
        "moco_v3",
        lambda s, seed: moco_v3_full(s, seed, head="fc"),
        "state_dict.module.base_encoder.",
    ),
    "moco_v3_one_gpu": _resnet(
        "moco_v3",
        lambda s, seed: moco_v3_full(s, seed, head="fc", wrapper=""),
        "state_dict.base_encoder.",
    ),
    "simclr": _resnet("simclr", simclr_converted, "state_dict.", detected="torchvision"),
    "vissl": _resnet(
        "vissl", vissl_full, "classy_state_dict.base_model.model.trunk._feature_blocks."
    ),
    "swav": _resnet("swav", swav_released, "module."),
    "swav_one_gpu": _resnet("swav", lambda s, seed: swav_released(s, seed, ""), ""),
    "byol": _resnet("byol", byol_pytorch, "model.module.online_network.encoder."),
    "byol_one_gpu": _resnet(
        "byol", lambda s, seed: byol_pytorch(s, seed, ""), "model.online_network.encoder."
    ),
    "byol_converted": _resnet("byol", byol_converted, "", detected="bare"),
    "pixpro": _resnet("pixpro", pixpro_full, "model.module.encoder."),
    "pixpro_one_gpu": _resnet(
        "pixpro", lambda s, seed: pixpro_released(s, seed, ""), "model.encoder."
    ),
    "pixpro_released": _resnet("pixpro", pixpro_released, "model.module.encoder."),
    "densecl": _resnet("densecl", densecl_raw, "state_dict.backbone."),
    "densecl_extracted": _resnet("densecl", densecl_extracted, "state_dict.", detected="bare"),
    "detcon": _resnet(
        "detcon",
        detcon_released,
        "params and state.res_net50.",
        save=_save_npy,
        suffix=".npy",
    ),
    "insloc": _resnet("insloc", insloc_full, "state_dict (res5 joined).backbone."),
    "insloc_fpn": _resnet(
        "insloc", lambda s, seed: insloc_full(s, seed, fpn=True), "state_dict.backbone."
    ),
    "cp2": _resnet("cp2", cp2_full, "state_dict.module.encoder_q.backbone."),
    "cp2_one_gpu": _resnet(
        "cp2", lambda s, seed: cp2_full(s, seed, ""), "state_dict.encoder_q.backbone."
    ),
    "resim": _resnet("resim", resim_full, "state_dict.module.encoder_q."),
    "resim_one_gpu": _resnet(
        "resim", lambda s, seed: resim_full(s, seed, ""), "state_dict.encoder_q."
    ),
    "resim_converted": _resnet("resim", resim_converted, "model.", suffix=".pkl"),
    "dino": _vit("dino", dino_full, "teacher.backbone."),
    "dino_resnet": _resnet(
        "dino", lambda s, seed: dino_full(s, seed, "module."), "teacher.module.backbone."
    ),
    "dino_released": _vit("dino", _bare, "", detected="bare"),
    "dinov2": _dinov2(dinov2_released, ""),
    "dinov2_registers": _dinov2(dinov2_released, "", "_reg4"),
    "dinov2_teacher": _dinov2(dinov2_teacher, "teacher.backbone."),
    "dinov2_timm": _dinov2(_bare, ""),
    "dinov2_timm_registers": _dinov2(_bare, "", "_reg4"),
    "ibot": _vit("ibot", ibot_full, "teacher.backbone."),
    "ibot_teacher": _vit("ibot", ibot_teacher, "state_dict.", detected="bare"),
    "mae": _vit("mae", mae_full, "model.", pooling="cls"),
    "mae_released": _vit("mae", mae_released, "model.", detected="bare", pooling="cls"),
    "timm": _resnet("timm", timm_training, "state_dict_ema."),
    "timm_ddp": _resnet(
        "timm", lambda s, seed: timm_training(s, seed, "module."), "state_dict_ema.module."
    ),
    "timm_compiled": _resnet(
        "timm",
        lambda s, seed: timm_training(s, seed, "_orig_mod.", "model_ema"),
        "model_ema._orig_mod.",
    ),
    "timm_vit": _vit("timm", timm_released, "", save=_save_safetensors, suffix=".safetensors"),
    "timm_convnext": Layout(
        "timm",
        "convnext_atto_no_layerscale",
        lambda s, seed: timm_released(s, seed, "head.fc"),
        "",
        "timm",
    ),
    "detectron2": _resnet(
        "detectron2", detectron2_detector, "model (res5 joined).backbone.", **_PKL
    ),
    "detectron2_fpn": _resnet(
        "detectron2",
        lambda s, seed: detectron2_detector(s, seed, fpn=True),
        "model.backbone.bottom_up.",
        **_PKL,
    ),
    "detectron2_rgb": _resnet("detectron2_rgb", detectron2_converted, "model.", **_PKL),
    "solo_learn": _resnet("solo_learn", solo_learn_full, "state_dict.backbone.", suffix=".ckpt"),
    "solo_learn_old": _resnet(
        "solo_learn",
        lambda s, seed: solo_learn_full(s, seed, "encoder"),
        "state_dict.encoder.",
        suffix=".ckpt",
    ),
    "lightly": _resnet("lightly", lightly_example, "state_dict.backbone.", suffix=".ckpt"),
    "lightly_benchmark": _resnet(
        "lightly", lightly_benchmark, "state_dict.query_backbone.", suffix=".ckpt"
    ),
    "lightly_dino": _resnet(
        "lightly", lightly_dino, "state_dict.teacher_backbone.", suffix=".ckpt"
    ),
    "mmselfsup": _resnet("mmselfsup", mmselfsup_moco, "state_dict.backbone."),
    "mmselfsup_byol": _resnet("mmselfsup", mmselfsup_byol, "state_dict.backbone."),
    "torchvision": _resnet("torchvision", lambda s, _: {**s, **fc("fc.", 1)}, ""),
    "bare": _resnet("bare", _bare, ""),
    "bare_mmengine": _resnet(
        "bare", lambda s, _: {"state_dict": prefixed(s, "backbone.")}, "state_dict.backbone."
    ),
    "bare_convnext": Layout("bare", "convnext_atto", convnext_classifier, "model.", "bare"),
}
"""Every layout, by method and, after it, what is special about it."""
