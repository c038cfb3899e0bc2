"""A config of mmsegmentation or mmdetection names one of our backbones."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmseg.registry import MODELS as MMSEG_MODELS
from torch import nn

from vicregl_bench.backbones.source import read_backbone
from vicregl_bench.backbones.zoo import random_state
from vicregl_bench.engine.mmcv_ext import install_mmcv_ext
from vicregl_bench.errors import ConfigError

IMPORT = "custom_imports = dict(imports=['vicregl_bench.backbones.openmmlab'])\n"
SIDE = 64


@contextlib.contextmanager
def scope(name: str) -> Iterator[None]:
    """What `default_scope` in a config does for a run."""
    with DefaultScope.overwrite_default_scope(name):
        yield


def config(tmp_path: Path, text: str) -> Any:
    (tmp_path / "config.py").write_text(IMPORT + text)
    return Config.fromfile(tmp_path / "config.py").model


def weights(tmp_path: Path, arch: str = "resnet18x0.25") -> Path:
    path = tmp_path / "weights.pth"
    torch.save(random_state(arch, 3), path)
    return path


def test_mmseg_trains_a_head_on_a_frozen_one(tmp_path: Path) -> None:
    path = weights(tmp_path)
    settings = config(
        tmp_path,
        f"""
model = dict(
    type='EncoderDecoder',
    data_preprocessor=dict(type='SegDataPreProcessor', size=({SIDE}, {SIDE})),
    backbone=dict(type='BenchBackbone', ckpt='{path}', output_stride=8, out_indices=(3,)),
    decode_head=dict(type='FCNHead', in_channels=128, in_index=0, channels=128, num_convs=0,
                     concat_input=False, num_classes=5))
""",
    )
    with scope("mmseg"):
        model = MMSEG_MODELS.build(settings)
    model.train()
    before = {key: value.clone() for key, value in model.backbone.state_dict().items()}
    images = torch.randn(2, 3, SIDE, SIDE)
    model.decode_head(model.extract_feat(images)).square().mean().backward()
    assert all(p.grad is None for p in model.backbone.parameters())
    assert all(torch.equal(before[k], v) for k, v in model.backbone.state_dict().items())
    assert not any(module.training for module in model.backbone.body.modules())
    with torch.no_grad():
        ours = read_backbone(str(path)).build(8).eval()(images)[3]
        torch.testing.assert_close(model.extract_feat(images)[0], ours)


def test_mmdet_detects_with_a_c4_split(tmp_path: Path) -> None:
    """RPN on stage 3, res5 as the shared RoI head: one training step and one prediction."""
    install_mmcv_ext()
    import mmdet.models  # noqa: F401
    from mmdet.registry import MODELS as MMDET_MODELS
    from mmdet.structures import DetDataSample
    from mmengine.structures import InstanceData

    path = weights(tmp_path)
    base = Path(__file__).parent / "c4.py"
    text = base.read_text().replace("CKPT", str(path))
    with scope("mmdet"):
        model = MMDET_MODELS.build(config(tmp_path, text))
    trained = [name for name, p in model.named_parameters() if p.requires_grad]
    assert any(name.startswith("backbone.body.layer3") for name in trained)
    assert any(name.startswith("roi_head.shared_head.layer4") for name in trained)
    assert not any(".layer4" in name for name in trained if name.startswith("backbone."))
    sample = DetDataSample(metainfo={"img_shape": (96, 96), "scale_factor": (1.0, 1.0)})
    sample.set_metainfo({"ori_shape": (96, 96), "pad_shape": (96, 96)})
    sample.gt_instances = InstanceData(
        bboxes=torch.tensor([[10.0, 10.0, 60.0, 60.0]]), labels=torch.tensor([1])
    )
    images = torch.randn(1, 3, 96, 96)
    losses = model.loss(images, [sample])
    total = sum(part for value in losses.values() for part in _parts(value))
    total.backward()
    assert model.backbone.body.layer3[0].conv1.weight.grad.abs().sum() > 0
    with torch.no_grad():
        model.eval()
        (found,) = model.predict(images, [sample])
    assert found.pred_instances.bboxes.shape[1] == 4


def _parts(value: Any) -> list[torch.Tensor]:
    parts = value if isinstance(value, list) else [value]
    return [part for part in parts if part.requires_grad]


def test_mmdet_takes_vits(tmp_path: Path) -> None:
    install_mmcv_ext()
    from mmdet.registry import MODELS as MMDET_MODELS

    model = MMDET_MODELS.build(
        config(tmp_path, "model = dict(type='BenchBackbone', ckpt='random:vit_tiny_patch16')")
    )
    assert isinstance(model, nn.Module)
    assert (model.out_channels, model.out_strides) == ([192] * 4, [16] * 4)


def test_impossible_options(tmp_path: Path) -> None:
    from vicregl_bench.backbones.openmmlab import BenchBackbone, BenchRes5

    with pytest.raises(ConfigError, match="maps are 0 to 3"):
        BenchBackbone("random:resnet18x0.25", out_indices=(4,))
    with pytest.raises(ConfigError, match="reads its weights itself"):
        BenchBackbone("random:resnet18x0.25", init_cfg={"type": "Pretrained"})
    with pytest.raises(ConfigError, match="C4 split"):
        BenchRes5("random:vit_tiny_patch16")
