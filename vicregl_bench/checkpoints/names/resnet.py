"""ResNets under detectron2's, lightly's and haiku's names; the canonical ones are torchvision's."""

import re

from torch import Tensor

from vicregl_bench.checkpoints.names.dialect import Dialect, Tensors
from vicregl_bench.checkpoints.names.table import Pair, Table
from vicregl_bench.checkpoints.weights import is_counter
from vicregl_bench.errors import CheckpointError

_DETECTRON2 = Table(
    "detectron2's ResNet",
    (("stem.conv1.weight", "stem.conv1.norm.weight"), ("res5.0.conv1.norm.weight",)),
    [
        Pair("stem.conv1.weight", "conv1.weight"),
        Pair("stem.conv1.norm.*", "bn1.*"),
        *(
            Pair(f"res{stage + 1}.#.{theirs}", f"layer{stage}.#.{ours}")
            for stage in (1, 2, 3, 4)
            for theirs, ours in (
                ("conv#.weight", "conv#.weight"),
                ("conv#.norm.*", "bn#.*"),
                ("shortcut.weight", "downsample.0.weight"),
                ("shortcut.norm.*", "downsample.1.*"),
            )
        ),
    ],
)

_LIGHTLY = Table(
    "lightly's ResNet",
    (("4.0.conv1.weight", "7.0.conv1.weight", "0.weight"),),
    [
        Pair("0.weight", "conv1.weight"),
        Pair("1.*", "bn1.*"),
        *(
            Pair(f"{stage + 3}.#.{part}", f"layer{stage}.#.{part}")
            for stage in (1, 2, 3, 4)
            for part in ("conv#.weight", "bn#.*", "downsample.#.*")
        ),
    ],
)

_HAIKU_UNUSED = ("hidden", "counter")


def _oihw(kernel: Tensor) -> Tensor:
    return kernel.permute(3, 2, 0, 1).contiguous() if kernel.ndim == 4 else kernel


def _flat(values: Tensor) -> Tensor:
    return values.reshape(-1) if values.shape[:-1] == (1, 1, 1) else values


_HAIKU_CONVOLUTIONS = (
    ("initial_conv", "conv1"),
    *(
        (f"block_group_{stage - 1}.block_#.{theirs}", f"layer{stage}.#.{ours}")
        for stage in (1, 2, 3, 4)
        for theirs, ours in (
            ("conv_0", "conv1"),
            ("conv_1", "conv2"),
            ("conv_2", "conv3"),
            ("shortcut_conv", "downsample.0"),
        )
    ),
)

_HAIKU_NORMS = tuple(
    (
        theirs.replace("conv", "batchnorm"),
        ours.replace("conv", "bn").replace("downsample.0", "downsample.1"),
    )
    for theirs, ours in _HAIKU_CONVOLUTIONS
)

_HAIKU = Table(
    "haiku's ResNet",
    (("initial_conv.w",),),
    [
        *(Pair(f"{theirs}.w", f"{ours}.weight", _oihw) for theirs, ours in _HAIKU_CONVOLUTIONS),
        *(
            Pair(f"{theirs}.{leaf}", f"{ours}.{name}", _flat)
            for theirs, ours in _HAIKU_NORMS
            for leaf, name in (
                ("scale", "weight"),
                ("offset", "bias"),
                ("mean_ema.average", "running_mean"),
                ("var_ema.average", "running_var"),
            )
        ),
    ],
    dropped=(f"{theirs}.*_ema.{leaf}" for theirs, _ in _HAIKU_NORMS for leaf in _HAIKU_UNUSED),
)

_HAIKU_NETWORK = re.compile(
    r"(?:.+/)?([^/~]+/(?:~/)?(?:initial_conv|initial_batchnorm|block_group_\d)/.+)"
)


def join_haiku(params: Tensors, state: Tensors) -> dict[str, Tensor]:
    """Bring a haiku ResNet's parameters and running statistics together.

    haiku keeps them in two trees, often under two names (`online_params/`, `online_state/`).

    Args:
        params: keys joined with `/`, e.g. `params/res_net50/~/initial_conv/w`.
        state: likewise, e.g. `state/res_net50/~/initial_batchnorm/~/mean_ema/average`.

    Returns:
        Both; of the network's keys what stands before its own name (`res_net50/`) is left out.
        The `haiku` dialect reads it.

    Raises:
        CheckpointError: there are two networks of the same name, e.g. an online and a target one.
    """
    joined: dict[str, Tensor] = {}
    for key, tensor in (*params.items(), *state.items()):
        found = _HAIKU_NETWORK.fullmatch(key)
        name = found[1] if found else key
        if name in joined:
            raise CheckpointError(
                f"two haiku networks have a {name}; join the parameters and the state of one alone"
            )
        joined[name] = tensor
    return joined


def _read_haiku(tensors: Tensors) -> dict[str, Tensor] | None:
    """Read keys joined with `/`; prefixes and other networks' keys come back with dots.

    Kernels turn from HWIO to OIHW; BatchNorm's values lose the axes of (1, 1, 1, C). Of a moving
    average `average` is taken, which is corrected for its start, and `hidden` and `counter` not.
    """
    if not any(key.endswith("initial_conv/w") for key in tensors):
        return None
    dotted = {key.replace("/~/", "/").replace("/", "."): tensor for key, tensor in tensors.items()}
    return _HAIKU.read(dotted)


def _write_detectron2(tensors: Tensors) -> dict[str, Tensor]:
    """Leave the counters out: detectron2's FrozenBatchNorm2d has none."""
    return _DETECTRON2.write({key: t for key, t in tensors.items() if not is_counter(key)})


DIALECTS = (
    Dialect(
        "detectron2",
        "resnet",
        "facebookresearch/detectron2, modeling/backbone/resnet.py",
        _DETECTRON2.read,
        _write_detectron2,
    ),
    Dialect(
        "lightly",
        "resnet",
        "lightly's examples: nn.Sequential(*list(resnet.children())[:-1])",
        _LIGHTLY.read,
        _LIGHTLY.write,
    ),
    Dialect(
        "haiku",
        "resnet",
        "google-deepmind/dm-haiku, nets/resnet.py and batch_norm.py; detcon, utils/networks.py",
        _read_haiku,
    ),
)
