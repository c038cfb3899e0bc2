"""A reporter for tests."""

from collections.abc import Callable


class Silent:
    """A reporter that keeps warnings and calls back on every step."""

    def __init__(self, on_step: Callable[[str, int], None] = lambda name, done: None) -> None:
        self.warnings: list[str] = []
        self.on_step = on_step

    def stage(self, name: str, total: int) -> Callable[[int], None]:
        return lambda done: self.on_step(name, done)

    def warn(self, text: str) -> None:
        self.warnings.append(text)
