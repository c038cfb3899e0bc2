"""Bring a backbone together that a detector keeps in two places."""

import dataclasses

from vicregl_bench.checkpoints.contents import Container, Contents


def join_stage(contents: Contents, source: str, target: str) -> Contents:
    """Add a copy of each container in which a backbone's last stage lies outside the backbone.

    C4 detectors run their last stage on regions and so keep it in the head. The copy is called
    `NAME (res5 joined)`; containers without such a stage, or whose backbone has one itself, get
    none.

    Args:
        contents: of the file.
        source: what stands before the stage in the head, e.g. `roi_head.shared_head.layer4.`.
        target: what belongs there instead, e.g. `backbone.layer4.`.
    """
    joined: list[Container] = []
    for found in contents.containers:
        if not any(key.startswith(source) for key in found.tensors):
            continue
        if any(key.startswith(target) for key in found.tensors):
            continue
        name = f"{found.name} (res5 joined)".lstrip()
        tensors = {
            target + key.removeprefix(source) if key.startswith(source) else key: tensor
            for key, tensor in found.tensors.items()
        }
        joined.append(Container(name, tensors))
    return dataclasses.replace(contents, containers=(*contents.containers, *joined))
