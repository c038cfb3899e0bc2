"""Files that processes make together, each of them made by one."""

import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from vicregl_bench.features.checksums import Checksums, unwritable

_LEFT = 4  # the share of what is missing that a process takes at the most is one in so many
_POLL_S = 0.2  # between looks at a lock that another process holds

Made = Generator[tuple[str, bytes]]
"""Names of files and their content, one after another."""


def make_together(
    index: Checksums,
    names: Sequence[str],
    make: Callable[[Sequence[str]], Made],
    *,
    claim: int = 1,
    report: Callable[[], None] = lambda: None,
    check_stop: Callable[[], None] = lambda: None,
) -> None:
    """Make what is missing of some files, and end when all are there.

    Processes that do the same share the files between them. What is whole when one is stopped is
    used by the others and by the next call.

    Args:
        index: of the files' folder.
        names: of all of them.
        make: makes those that it is given; each is kept as soon as it is made.
        claim: files that a process takes at once at the most, and never more than a quarter of what
            is missing, so that others find some left.
        report: called whenever `index.verified` may have grown, and while waiting.
        check_stop: called between files and while waiting; raises where the run is to stop.

    Raises:
        RecordError: the folder cannot be written.
    """
    while True:
        check_stop()
        missing = index.missing(names)
        report()
        if not missing:
            return
        with _claimed(index.folder, missing, min(claim, -(-len(missing) // _LEFT))) as claimed:
            mine = [name for name in index.missing(names) if name in claimed]
            with closing(make(mine)) as made:
                for name, content in made:
                    index.add({name: content})
        if not claimed:
            time.sleep(_POLL_S)


def when_changed(update: Callable[[int], None]) -> Callable[[int], None]:
    """Progress that is told only where it is another than before."""
    told: int | None = None

    def tell(done: int) -> None:
        nonlocal told
        if done != told:
            update(done)
        told = done

    return tell


@contextmanager
def _claimed(folder: Path, names: Sequence[str], most: int) -> Iterator[set[str]]:
    """Files that no other process has at work, at most so many, as this one's for the while.

    Raises:
        RecordError: the folder cannot be written.
    """
    with ExitStack() as stack:
        mine: set[str] = set()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for name in names:
                if len(mine) == most:
                    break
                with suppress(Timeout):
                    stack.enter_context(FileLock((folder / name).with_suffix(".lock"), timeout=0))
                    mine.add(name)
        except OSError as error:
            raise unwritable(folder, error) from error
        yield mine
