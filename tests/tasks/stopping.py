"""Stopping a running task at a given step, as Ctrl-C does."""

import pytest

from tests.reporter import Silent
from vicregl_bench.engine import stop as engine


def stop_after(monkeypatch: pytest.MonkeyPatch, stage: str, step: int) -> Silent:
    """A reporter that asks every running task to stop, as Ctrl-C does, after a step of a stage."""
    flags: list[engine.StopFlag] = []
    original = engine.StopFlag.__init__

    def remember(self: engine.StopFlag) -> None:
        original(self)
        flags.append(self)

    monkeypatch.setattr(engine.StopFlag, "__init__", remember)

    def on_step(name: str, done: int) -> None:
        if name == stage and done == step:
            flags[-1].requested = True

    return Silent(on_step)
