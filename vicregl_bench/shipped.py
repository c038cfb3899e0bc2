"""Files that go with the package without being Python modules of it."""

import importlib.resources
from pathlib import Path


def shipped(name: str) -> Path:
    """Where such a file or folder is: inside the installed package, or beside it in a checkout.

    Args:
        name: path relative to the project, such as "eval_configs".
    """
    package = Path(str(importlib.resources.files("vicregl_bench")))
    inside = package / name
    return inside if inside.exists() else package.parent / name
