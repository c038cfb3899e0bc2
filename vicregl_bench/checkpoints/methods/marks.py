"""What readers look for in a file: names of groups and keys, and nothing about values."""

from collections.abc import Iterator

from vicregl_bench.checkpoints.contents import Container, Contents

_WRAPPERS = ("module.", "_orig_mod.")
"""Of DistributedDataParallel and torch.compile, in any order."""


def never(contents: Contents) -> bool:
    """Recognise nothing: of methods whose files hold no key of their own."""
    del contents
    return False


def plain(key: str) -> str:
    """Return a key without the wrappers before it."""
    while key.startswith(_WRAPPERS):
        key = key.partition(".")[2]
    return key


def in_groups(contents: Contents, *names: str) -> Iterator[Container]:
    """Give the containers that have all of these top-level groups, among others."""
    return (found for found in contents.containers if found.groups() >= set(names))


def has_groups(contents: Contents, *names: str) -> bool:
    """Whether some container has all of these top-level groups, among others."""
    return any(in_groups(contents, *names))


def has_keys(contents: Contents, *keys: str) -> bool:
    """Whether some container has all of these keys, wrappers left out."""
    wanted = set(keys)
    return any(
        wanted <= {plain(key) for key in found.tensors if key.endswith(keys)}
        for found in contents.containers
    )


def has_start(contents: Contents, start: str) -> bool:
    """Whether some key begins so, wrappers left out."""
    return any(
        plain(key).startswith(start) for found in contents.containers for key in found.tensors
    )


def addresses(*places: str) -> tuple[str, ...]:
    """List places with and without DistributedDataParallel's `module.` behind the container.

    Args:
        places: container and prefix, parted by `:`, e.g. `state_dict:encoder_q.`, best first.
    """
    listed: list[str] = []
    for place in places:
        container, _, prefix = place.rpartition(":")
        lead = f"{container}." if container else ""
        listed += [f"{lead}module.{prefix}", f"{lead}{prefix}"]
    return tuple(listed)
