"""Golden files of a task, made anew: `python -m tests.golden.make TASK`."""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

from tests.tasks.test_protocol import GOLDEN, KINDS, _differs, _is_for, _presets
from vicregl_bench.tasks.protocol import PROFILES, load_task, protocol_info


def golden_files(name: str) -> Iterator[tuple[str, str]]:
    """Names of the files that hold a task's settings, and what is in them."""
    version = protocol_info(name).version
    for kind in KINDS if _differs(name) else [""]:
        family, arch = KINDS[kind]
        if not _is_for(name, family):
            continue
        for end, preset in _presets(name, kind).items():
            for profile in PROFILES:
                task = load_task(name, profile, family=family, arch=arch, preset=preset)
                file = f"{name}-v{version}-{profile}{kind}{end}.json"
                yield file, json.dumps(task.settings.dump(), indent=2) + "\n"


def make(name: str, folder: Path = GOLDEN) -> list[Path]:
    """Write those files of a task that are not there, and remove those of its other versions.

    Raises:
        SystemExit: a file of this version holds other numbers: they need a new version.
    """
    files = dict(golden_files(name))
    there = [file for file in files if (folder / file).exists()]
    for file in there:
        if json.loads((folder / file).read_text()) != json.loads(files[file]):
            raise SystemExit(
                f"{file} holds other numbers: raise `version` in the task's file first"
            )
    for path in folder.glob(f"{name}-v*.json"):
        if path.name not in files:
            path.unlink()
    for file in files.keys() - there:
        (folder / file).write_text(files[file])
    return [folder / file for file in files]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("task")
    for made in make(parser.parse_args().task):
        print(made)
