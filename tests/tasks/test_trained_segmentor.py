"""Fine-tuned models against mmsegmentation's own EncoderDecoder, and what is added to it."""

import math
from typing import Any

import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.optim import OptimWrapper
from mmengine.registry import init_default_scope
from mmengine.structures import PixelData
from mmseg.models import EncoderDecoder
from mmseg.models.decode_heads import FCNHead
from mmseg.models.losses import CrossEntropyLoss
from mmseg.structures import SegDataSample
from torch import Tensor, nn

from vicregl_bench.backbones.resnet import resnet_options
from vicregl_bench.backbones.source import BackboneSource, read_backbone
from vicregl_bench.tasks.protocol import Task, load_task
from vicregl_bench.tasks.segmentation.decode_head import SplitLinearHead
from vicregl_bench.tasks.segmentation.trained_segmentor import TrainedSegmentor, build_trained

SIZE, CLASSES = 64, 21
PREPROCESSOR = {
    "type": "mmseg.SegDataPreProcessor",
    "mean": [123.675, 116.28, 103.53],
    "std": [58.395, 57.12, 57.375],
    "bgr_to_rgb": True,
    "size": (SIZE, SIZE),
    "seg_pad_val": 255,
}
NARROW = {"fcn.channels": 32, "fcn.auxiliary.channels": 16}
TINY = "random:resnet18x0.25"


def task_of(name: str, source: BackboneSource, **overrides: Any) -> Task:
    family, arch = source.architecture.family, source.arch
    return load_task(name, "ci", overrides, family=family, arch=arch)


def build(
    name: str, ckpt: str, run_seed: int = 0, head_seed: int = 0, **overrides: Any
) -> TrainedSegmentor:
    source = read_backbone(ckpt)
    task = task_of(name, source, **overrides)
    return build_trained(
        task.settings, source, PREPROCESSOR, run_seed=run_seed, head_seed=head_seed
    )


def sgd(model: nn.Module, lr: float = 0.01) -> OptimWrapper:
    return OptimWrapper(torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9, weight_decay=5e-4))


def batch(seed: int) -> dict[str, Any]:
    """Four pictures, one of them padded, with a mask of blocks and ignored rows."""
    generator = torch.Generator().manual_seed(seed)
    inputs, samples = [], []
    for height in (SIZE, 50, SIZE, SIZE):
        picture = torch.randint(0, 256, (3, height, SIZE), generator=generator, dtype=torch.uint8)
        label = torch.randint(0, CLASSES, (1, 4, 4), generator=generator)
        label = label.repeat_interleave(16, 1).repeat_interleave(16, 2)[:, :height]
        label[:, :5] = 255
        sample = SegDataSample(gt_sem_seg=PixelData(data=label))
        sample.set_metainfo({"img_shape": (height, SIZE)})
        inputs.append(picture)
        samples.append(sample)
    return {"inputs": inputs, "data_samples": samples}


def test_picture(shape: tuple[int, int], original: tuple[int, int]) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(0)
    picture = torch.randint(0, 256, (3, *shape), generator=generator, dtype=torch.uint8)
    sample = SegDataSample(gt_sem_seg=PixelData(data=torch.zeros(1, *original, dtype=torch.long)))
    sample.set_metainfo({"img_shape": shape, "ori_shape": original})
    return {"inputs": [picture], "data_samples": [sample]}


test_picture.__test__ = False  # type: ignore[attr-defined]


def fcn_config(width: int, index: int, channels: int, weight: float, **more: Any) -> dict[str, Any]:
    return {
        "type": "FCNHead",
        "in_channels": width,
        "in_index": index,
        "channels": channels,
        "num_classes": CLASSES,
        "norm_cfg": {"type": "BN", "requires_grad": True},
        "align_corners": False,
        "loss_decode": {"type": CrossEntropyLoss, "use_sigmoid": False, "loss_weight": weight},
        **more,
    }


def peer(name: str, slide: tuple[int, int] | None = None) -> EncoderDecoder:
    """Mmsegmentation's model of a ResNet-18, written by hand, on the weights of ours."""
    init_default_scope("mmseg")
    auxiliary = None
    if name == "voc_linear_ft":
        stride = 16
        plain = {"num_convs": 0, "concat_input": False, "dropout_ratio": 0.0}
        head = fcn_config(512, 3, 512, 1.0, **plain)
    else:
        stride = 8
        head = fcn_config(512, 3, 32, 1.0, num_convs=2, concat_input=True, dropout_ratio=0.1)
        early = {"num_convs": 1, "concat_input": False, "dropout_ratio": 0.1}
        auxiliary = fcn_config(256, 2, 16, 0.4, **early)
    test_cfg = ConfigDict(mode="whole")
    if slide is not None:
        test_cfg = ConfigDict(mode="slide", crop_size=(slide[0],) * 2, stride=(slide[1],) * 2)
    model = EncoderDecoder(
        data_preprocessor=PREPROCESSOR,
        backbone={"type": "ResNet", **resnet_options("resnet18", stride)},
        decode_head=head,
        auxiliary_head=auxiliary,
        test_cfg=test_cfg,
    )
    model.backbone.load_state_dict(dict(read_backbone("random:resnet18").state_dict))
    return model


def copy_heads(mine: TrainedSegmentor, theirs: EncoderDecoder) -> None:
    theirs.decode_head.load_state_dict(mine.decode_head.state_dict())
    if mine.with_auxiliary_head:
        theirs.auxiliary_head.load_state_dict(mine.auxiliary_head.state_dict())


def distance(one: nn.Module, other: nn.Module) -> float:
    """Largest difference of a parameter, relative to its norm."""
    pairs = zip(one.parameters(), other.parameters(), strict=True)
    return max(float(((a - b).norm() / b.norm().clamp(min=1e-12)).detach()) for a, b in pairs)


@pytest.mark.parametrize(
    ("name", "overrides"),
    [("voc_linear_ft", {}), ("voc_fcn_ft", {**NARROW, "backbone.output_stride": 8})],
)
def test_five_iterations_equal_mmsegmentation(name: str, overrides: dict[str, Any]) -> None:
    mine = build(name, "random:resnet18", **overrides)
    theirs = peer(name)
    copy_heads(mine, theirs)
    before = {key: value.clone() for key, value in theirs.state_dict().items()}
    my_wrapper, their_wrapper = sgd(mine), sgd(theirs)
    for step in range(5):
        mine.train()
        theirs.train()
        mine.seed_step()  # the same dropout
        theirs_loss = float(theirs.train_step(batch(step), their_wrapper)["loss"].detach())
        log = mine.train_step(batch(step), my_wrapper)
        assert not log["loss"].requires_grad
        assert float(log["loss"]) == pytest.approx(theirs_loss, rel=1e-4)
        assert int(log["heads"]) == 1
    # the same operations but for the 1x1's call: rounding, five steps on
    assert distance(mine.backbone, theirs.backbone) < 1e-4
    assert distance(mine.decode_head, theirs.decode_head) < 1e-4
    after = theirs.state_dict()
    for key in ("backbone.conv1.weight", "backbone.bn1.running_mean", "decode_head.conv_seg.bias"):
        assert not torch.equal(after[key], before[key])
    mean = mine.backbone.body.get_buffer("bn1.running_mean")
    assert torch.allclose(mean, after["backbone.bn1.running_mean"], rtol=1e-4)
    assert int(mine.iteration) == 5 and int(mine.diverged_at) == -1


@pytest.mark.parametrize("ckpt", ["random:convnext_atto", "random:vit_tiny_patch16"])
def test_a_batch_in_two_parts_gives_the_same_step(ckpt: str) -> None:
    """Of backbones without BatchNorm, for which the parts of a batch are independent."""
    whole = build("voc_linear_ft", ckpt)
    parts = build("voc_linear_ft", ckpt, **{"schedule.accumulate": 2})
    assert (whole.accumulate, parts.accumulate) == (1, 2)
    logs = []
    begun = [parameter.detach().clone() for parameter in whole.parameters()]
    for model in (whole, parts):
        model.train()
        logs.append(model.train_step(batch(0), sgd(model)))
    assert float(logs[0]["loss"]) == pytest.approx(float(logs[1]["loss"]), rel=1e-6)
    # float32's rounding, seen where a bias began at zero and is the gradient alone (8e-7)
    assert distance(whole, parts) < 1e-5
    moved = [not torch.equal(a, b) for a, b in zip(begun, whole.parameters(), strict=True)]
    # final norms that only `pooled` has are not trained
    assert sum(moved) >= len(moved) - 2
    assert all(p.grad is None for p in parts.parameters())


def test_parts_of_a_resnet_equal_the_batch_where_statistics_stand_still() -> None:
    models = [build("voc_linear_ft", TINY, **{"schedule.accumulate": n}) for n in (1, 2, 4)]
    for model in models:
        model.eval()
        model.train_step(batch(0), sgd(model))
    assert distance(models[0], models[1]) < 1e-5
    assert distance(models[0], models[2]) < 1e-5


def steps(model: TrainedSegmentor, wrapper: OptimWrapper, first: int, last: int) -> list[float]:
    model.train()
    return [float(model.train_step(batch(i), wrapper)["loss"]) for i in range(first, last)]


def test_a_resumed_run_equals_the_whole_run() -> None:
    """With dropout, in parts, whatever was drawn in between."""
    options: dict[str, Any] = {
        **NARROW,
        "fcn.dropout": 0.5,
        "fcn.auxiliary.dropout": 0.5,
        "schedule.accumulate": 2,
    }
    whole = build("voc_fcn_ft", TINY, **options)
    expected = steps(whole, sgd(whole), 0, 4)
    begun = build("voc_fcn_ft", TINY, **options)
    wrapper = sgd(begun)
    losses = steps(begun, wrapper, 0, 2)
    torch.rand(7)
    resumed = build("voc_fcn_ft", TINY, **options)
    resumed.load_state_dict(begun.state_dict())
    other = sgd(resumed)
    other.load_state_dict(wrapper.state_dict())
    losses += steps(resumed, other, 2, 4)
    assert losses == expected
    state = resumed.state_dict()
    assert all(torch.equal(state[key], value) for key, value in whole.state_dict().items())


def test_dropout_follows_from_seeds_and_iteration() -> None:
    def first_loss(run_seed: int, head_seed: int, iteration: int) -> float:
        options: dict[str, Any] = {**NARROW, "fcn.dropout": 0.5}
        model = build("voc_fcn_ft", TINY, **options)
        model.step_seeds = (run_seed, head_seed)
        model.iteration.fill_(iteration)
        return steps(model, sgd(model), 0, 1)[0]

    assert first_loss(0, 0, 0) == first_loss(0, 0, 0)
    assert len({first_loss(*entropy) for entropy in [(0, 0, 0), (1, 0, 0), (0, 1, 0)]}) == 3
    assert first_loss(0, 0, 0) != first_loss(0, 0, 1)


@pytest.mark.parametrize("broken", [0, 3])
def test_a_loss_that_is_not_finite_ends_training(broken: int) -> None:
    """Whichever part of the batch it comes from; the parameters stay."""
    model = build("voc_linear_ft", TINY, **{"schedule.accumulate": 2})
    wrapper = sgd(model)
    steps(model, wrapper, 0, 2)
    before = [parameter.detach().clone() for parameter in model.parameters()]
    bad = batch(2)
    bad["inputs"][broken] = torch.full((3, SIZE, SIZE), math.inf)
    bad["data_samples"][broken] = batch(2)["data_samples"][0]
    log = model.train_step(bad, wrapper)
    assert not math.isfinite(float(log["loss"])) and int(log["heads"]) == 0
    assert int(model.diverged_at) == 2 and int(model.iteration) == 3
    log = model.train_step(batch(3), wrapper)
    assert math.isnan(float(log["loss"])) and int(log["heads"]) == 0
    assert int(model.diverged_at) == 2
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_rate_that_is_too_large_diverges() -> None:
    model = build("voc_linear_ft", TINY)
    losses = steps(model, sgd(model, lr=1e30), 0, 4)
    assert math.isfinite(losses[0]) and not math.isfinite(losses[-1])
    assert 1 <= int(model.diverged_at) <= 3
    again = build("voc_linear_ft", TINY)
    again.load_state_dict(model.state_dict())
    assert int(again.diverged_at) == int(model.diverged_at)


def test_predictions_that_are_not_finite_are_marked() -> None:
    model = build("voc_linear_ft", TINY)
    wrapper = sgd(model)
    steps(model, wrapper, 0, 2)
    model.eval()
    with torch.no_grad():
        model.val_step(test_picture((64, 80), (70, 90)))
        assert int(model.diverged_at) == -1
        model.decode_head.conv_seg.weight[3] = math.nan
        model.val_step(test_picture((64, 80), (70, 90)))
    assert int(model.diverged_at) == 1
    assert int(model.train_step(batch(2), wrapper)["heads"]) == 0


def test_initialisation_follows_from_the_seeds() -> None:
    def weights(run_seed: int, head_seed: int) -> dict[str, Tensor]:
        torch.rand(3)
        state = build("voc_fcn_ft", TINY, run_seed, head_seed, **NARROW).state_dict()
        return {key: value for key, value in state.items() if value.ndim == 4}

    first = weights(0, 0)
    again = weights(0, 0)
    assert all(torch.equal(first[key], again[key]) for key in first)
    for other in (weights(0, 1), weights(1, 0)):
        for key in first:
            assert torch.equal(first[key], other[key]) == key.startswith("backbone.")


def test_building_and_init_weights_leave_no_trace() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    options: dict[str, Any] = {"head.init_std": 0.5}
    model = build("voc_linear_ft", "random:resnet18", **options)
    assert torch.equal(torch.get_rng_state(), before)
    state = {key: value.clone() for key, value in model.state_dict().items()}
    model.init_weights()  # mmengine's Runner does
    assert all(torch.equal(state[key], value) for key, value in model.state_dict().items())
    weight = model.decode_head.conv_seg.weight
    # 10,752 draws: the standard deviation is known to 0.7 %
    assert float(weight.std().detach()) == pytest.approx(0.5, rel=0.03)
    assert not model.decode_head.conv_seg.bias.any()
    source = dict(read_backbone("random:resnet18").state_dict)
    body = model.backbone.body.state_dict()
    assert all(torch.equal(body[key], value) for key, value in source.items())
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert all(m.training for m in model.train().modules() if isinstance(m, nn.BatchNorm2d))


@pytest.mark.parametrize("shape", [(64, 97), (30, 40)])
@pytest.mark.parametrize("slide", [None, (48, 32)])
def test_predictions_equal_mmsegmentation(
    shape: tuple[int, int], slide: tuple[int, int] | None
) -> None:
    """Whole and by windows, of pictures larger and smaller than a window."""
    source = read_backbone("random:resnet18")
    task = task_of("voc_linear_ft", source, **{"head.init_std": 0.1})
    if slide is not None:
        section = {"crop": slide[0], "stride": slide[1]}
        settings = task.settings.model_validate({**task.settings.dump(), "slide": section})
        task = task.model_copy(update={"settings": settings})
    mine = build_trained(task.settings, source, PREPROCESSOR, run_seed=0, head_seed=0).eval()
    theirs = peer("voc_linear_ft", slide).eval()
    copy_heads(mine, theirs)
    with torch.no_grad():
        expected = theirs.test_step(test_picture(shape, (70, 101)))[0]
        sample = mine.test_step(test_picture(shape, (70, 101)))[0]
    assert sample.pred_sem_seg.data.shape == (1, 70, 101)
    assert torch.allclose(sample.seg_logits.data, expected.seg_logits.data, rtol=1e-4, atol=1e-5)
    # a pixel on the border of two classes may fall to either side by rounding
    same = sample.pred_sem_seg.data == expected.pred_sem_seg.data
    assert float(same.float().mean()) > 0.999
    assert sample.pred_sem_seg.data.unique().numel() > 2


WIDTHS, SIDES = (4, 6, 8, 10), (16, 8, 4, 2)


def maps() -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [
        torch.randn(3, width, side, side + 1, generator=generator).requires_grad_()
        for width, side in zip(WIDTHS, SIDES, strict=True)
    ]


@pytest.mark.parametrize("indices", [(0, 1, 2, 3), (1, -1), (-1,), (2,)])
def test_split_head_equals_the_concatenation(indices: tuple[int, ...]) -> None:
    """Loss, logits and every gradient are those of mmseg's head on `resize_concat`."""
    widths = [WIDTHS[index] for index in indices]
    mine = SplitLinearHead(widths, indices, CLASSES)
    theirs = FCNHead(
        in_channels=widths,
        in_index=list(indices),
        input_transform="resize_concat",
        channels=sum(widths),
        num_convs=0,
        concat_input=False,
        dropout_ratio=0.0,
        num_classes=CLASSES,
        align_corners=False,
        loss_decode={"type": CrossEntropyLoss},
    )
    theirs.load_state_dict(mine.state_dict())
    gradients, losses, logits = [], [], []
    for head in (mine, theirs):
        head.train()
        given = maps()
        samples = [
            SegDataSample(gt_sem_seg=PixelData(data=sample.gt_sem_seg.data[:, :48]))
            for sample in batch(0)["data_samples"][:3]
        ]
        loss = head.loss(given, samples, None)["loss_ce"]
        loss.backward()
        losses.append(float(loss.detach()))
        logits.append(head(given).detach())
        read = [given[index].grad for index in indices]
        gradients.append([*read, *(parameter.grad for parameter in head.parameters())])
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)
    for one, other in zip([logits[0], *gradients[0]], [logits[1], *gradients[1]], strict=True):
        assert float((one - other).norm() / other.norm()) < 1e-5


def test_batch_norm_and_dropout_stand_before_the_concatenated_1x1() -> None:
    """As the released configs have it: nothing of ours but the order."""
    head = SplitLinearHead(WIDTHS, (0, 1, 2, 3), CLASSES, batch_norm=True, dropout=0.3)
    assert head.norm is not None
    given = maps()
    upsampled = [
        nn.functional.interpolate(one, size=(16, 17), mode="bilinear", align_corners=False)
        for one in given
    ]
    joined = torch.cat(upsampled, dim=1)
    mean, var = joined.mean((0, 2, 3), keepdim=True), joined.var((0, 2, 3), False, keepdim=True)
    head.train()
    torch.manual_seed(3)
    logits = head(given)
    torch.manual_seed(3)
    dropped = nn.functional.dropout2d((joined - mean) / (var + 1e-5).sqrt(), 0.3)
    expected = torch.einsum("cd,bdhw->bchw", head.conv_seg.weight[:, :, 0, 0], dropped)
    expected = expected + head.conv_seg.bias[:, None, None]
    assert torch.allclose(logits, expected, atol=1e-5)
    assert torch.allclose(head.norm.get_buffer("running_mean"), 0.1 * mean.flatten(), atol=1e-6)


def test_a_released_head_is_built_as_told() -> None:
    options: dict[str, Any] = {"head.batch_norm": True, "head.dropout": 0.1}
    model = build("voc_linear_ft", "random:convnext_atto", **options)
    assert isinstance(model.decode_head, SplitLinearHead)
    assert model.decode_head.norm is not None and model.decode_head.dropout.p == 0.1
    assert model.decode_head.input_transform == "resize_concat"
    plain = build("voc_linear_ft", "random:convnext_atto")
    assert plain.decode_head.input_transform == "multiple_select"
    assert plain.test_cfg.mode == "slide" and plain.test_cfg.stride == (171, 171)
    log = steps(model, sgd(model), 0, 1)
    assert math.isfinite(log[0])
