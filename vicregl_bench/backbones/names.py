"""Names of backbones on the command line, without torch."""

RANDOM_PREFIX = "random:"
"""Before an architecture's name, in place of a checkpoint file: weights that are made, not read."""

ALIASES = {
    "wide_resnet50_2": "resnet50x2_narrow",
    "wide_resnet101_2": "resnet101x2_narrow",
    "resnet50w2": "resnet50x2",
    "resnet50w4": "resnet50x4",
    "resnet50w5": "resnet50x5",
}
"""Names of torchvision and SwAV for architectures that go by another name here."""


def is_random(ckpt: str) -> bool:
    """Whether a checkpoint's weights are made, not read."""
    return ckpt.startswith(RANDOM_PREFIX)


def canonical(arch: str) -> str:
    """The name that records have for an architecture; one that is unknown stays as it is."""
    return ALIASES.get(arch, arch)
