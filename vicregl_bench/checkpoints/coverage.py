"""The coverage report: which tensors of a backbone a checkpoint holds, and what it leaves over."""

from dataclasses import dataclass

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Coverage:
    """How one place in a file covers one backbone. Keys are the backbone's own.

    Attributes:
        arch: name of the backbone.
        container: dotted path of the dict in the file, `""` for the top level.
        prefix: what stands before the backbone's keys there, with its final dot, or `""`.
        matched: keys found with the right shape.
        missing: parameters and running statistics that are not there.
        missing_harmless: `num_batches_tracked` counters that are not there; evaluation never
            reads them.
        wrong_shape: `(key, shape found, shape wanted)`.
        unexpected: keys behind the prefix that the backbone does not take, e.g. `fc.weight`.
        dropped: number of tensors in each other group of the container, e.g.
            `("module.projector", 8)`.
        names: dialect that the keys were translated from, `""` for none.
        reshaped: keys whose tensors the translation turned into another layout.
        chosen: what settled on this place among those of the file.
    """

    arch: str
    container: str
    prefix: str
    matched: tuple[str, ...]
    missing: tuple[str, ...]
    missing_harmless: tuple[str, ...]
    wrong_shape: tuple[tuple[str, Shape, Shape], ...]
    unexpected: tuple[str, ...]
    dropped: tuple[tuple[str, int], ...]
    names: str = ""
    reshaped: tuple[str, ...] = ()
    chosen: str = ""

    @property
    def complete(self) -> bool:
        """Whether every parameter and running statistic is there with the right shape."""
        return not self.missing and not self.wrong_shape

    @property
    def total(self) -> int:
        """Number of tensors the backbone asks for, harmlessly missing counters left out."""
        return len(self.matched) + len(self.missing) + len(self.wrong_shape)

    @property
    def address(self) -> str:
        """Container and prefix as one string, the form `--prefix` takes."""
        return join_address(self.container, self.prefix)

    def to_dict(self) -> dict[str, object]:
        """Return the report as plain JSON values."""
        return {
            "arch": self.arch,
            "container": self.container,
            "prefix": self.prefix,
            "complete": self.complete,
            "matched": list(self.matched),
            "missing": list(self.missing),
            "missing_harmless": list(self.missing_harmless),
            "wrong_shape": [
                {"key": key, "found": list(found), "wanted": list(wanted)}
                for key, found, wanted in self.wrong_shape
            ],
            "unexpected": list(self.unexpected),
            "dropped": dict(self.dropped),
            "names": self.names,
            "reshaped": list(self.reshaped),
            "chosen": self.chosen,
        }


def join_address(container: str, prefix: str) -> str:
    """Join a container's name and a prefix: `model`, `backbone.` -> `model.backbone.`."""
    return f"{container}.{prefix}" if container else prefix
