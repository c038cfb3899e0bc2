"""Progress with the time left, on stderr: a bar on a terminal, lines elsewhere."""

import time
from collections.abc import Callable
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

_LINE_EVERY_S = 10.0


class StderrReporter:
    """The `Reporter` of the command line; use it as a context manager.

    Args:
        quiet: say nothing; for all but the first of several processes.
    """

    def __init__(self, quiet: bool = False) -> None:
        self.console = Console(
            stderr=True,
            highlight=False,
            quiet=quiet,
            # names and paths are printed as they are, whatever brackets and colons are in them
            markup=False,
            emoji=False,
        )
        self._bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=self.console,
        )

    def __enter__(self) -> "StderrReporter":
        if self.console.is_terminal:
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.console.is_terminal:
            self._bar.stop()

    def stage(self, name: str, total: int) -> Callable[[int], None]:
        """Begin a stage; call the result with the number of steps done."""
        if self.console.is_terminal:
            identity = self._bar.add_task(name, total=total)
            return lambda done: self._bar.update(identity, completed=done)
        return _Lines(self.console, name, total)

    def warn(self, text: str) -> None:
        """Print a warning."""
        self.console.print(f"warning: {text}", style="yellow", soft_wrap=True)


class _Lines:
    """A line with the first step, one every ten seconds, and one at the end."""

    def __init__(self, console: Console, name: str, total: int) -> None:
        self.console, self.name, self.total = console, name, total
        self.begin = self.last = time.monotonic()
        self.first: int | None = None

    def __call__(self, done: int) -> None:
        now = time.monotonic()
        if self.first is None and done > 1:  # resumed: nothing is known of its pace yet
            self.first, self.begin = done, now
            return
        self.first = self.first or 0
        begun = done == 1
        if now - self.last < _LINE_EVERY_S and not begun and done < self.total:
            return
        self.last = now
        rate = (now - self.begin) / max(1, done - self.first)
        left = int(rate * (self.total - done))
        self.console.print(
            f"{self.name}: {done}/{self.total}, {int(now - self.begin)} s, about {left} s left",
            soft_wrap=True,
        )
