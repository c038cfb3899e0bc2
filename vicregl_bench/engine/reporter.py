"""How long work tells its progress."""

from collections.abc import Callable
from typing import Literal, Protocol

Precision = Literal["fp32", "bf16"]


class Reporter(Protocol):
    """Where a run reports: nothing of it goes to stdout."""

    def stage(self, name: str, total: int) -> Callable[[int], None]:
        """Begin a stage of `total` steps; call the result with the number of steps done."""

    def warn(self, text: str) -> None:
        """Say something that the user should know."""
