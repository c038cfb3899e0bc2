"""A checkpoint, and how it is read, as files of checkpoints and suites give it."""

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from vicregl_bench.backbones.names import is_random
from vicregl_bench.engine.settings import Section

if TYPE_CHECKING:
    from vicregl_bench.backbones.source import BackboneSource

Word = Annotated[str, Field(min_length=1)]


class WeightsGiven(Section):
    """Options of `vicregl-bench run` that say what is judged; any may be left out."""

    ckpt: Word | None = None
    arch: Word | None = None
    method: Word | None = None
    prefix: Word | None = None
    trust_pickle: bool = False


class Weights(WeightsGiven):
    """The same with a checkpoint.

    Attributes:
        ckpt: a file, or random:ARCH.
    """

    ckpt: Word

    @property
    def random(self) -> bool:
        """Whether the weights are made, not read."""
        return is_random(self.ckpt)

    def read(self) -> "BackboneSource":
        """The weights, which takes torch; they stay in memory for as long as they are held.

        Raises:
            CheckpointError: the file cannot be read or does not hold the backbone whole.
            ConfigError: an option that does not fit.
        """
        from vicregl_bench.backbones.source import read_backbone

        return read_backbone(
            self.ckpt,
            arch=self.arch,
            method=self.method,
            prefix=self.prefix,
            trust_pickle=self.trust_pickle,
        )

    def options(self) -> list[str]:
        """The options, without those that are not given."""
        named = {"--arch": self.arch, "--method": self.method, "--prefix": self.prefix}
        words = ["--ckpt", self.ckpt]
        words += [word for name, value in named.items() if value for word in (name, value)]
        return [*words, "--trust-pickle"] if self.trust_pickle else words
