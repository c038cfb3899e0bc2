"""The commands about checkpoint files: inspect and convert."""

import contextlib
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from vicregl_bench.cli.output import print_json, print_rows, print_text
from vicregl_bench.cli.quiet import import_engine
from vicregl_bench.errors import CheckpointError, ConfigError

Ckpt = Annotated[str, typer.Option(help="Checkpoint file.")]
Arch = Annotated[str | None, typer.Option(help="Architecture, where weights do not tell.")]
Method = Annotated[str | None, typer.Option(help="Reader; `vicregl-bench ls methods` lists them.")]
Prefix = Annotated[str | None, typer.Option(help="Key prefix of the backbone.")]
Trust = Annotated[
    bool, typer.Option("--trust-pickle", help="Unpickle foreign objects; they may run code.")
]
Json = Annotated[bool, typer.Option("--json", help="JSON on stdout.")]


class _Format(StrEnum):
    torchvision = "torchvision"
    timm = "timm"
    mmseg = "mmseg"
    mmdet = "mmdet"
    detectron2 = "detectron2"
    released = "released"


def inspect(
    ckpt: Ckpt,
    arch: Arch = None,
    method: Method = None,
    prefix: Prefix = None,
    pictures: Annotated[
        Path | None,
        typer.Option(help="Folder of natural pictures: check BatchNorm's statistics on some."),
    ] = None,
    trust_pickle: Trust = False,
    as_json: Json = False,
) -> None:
    """Say what is in a checkpoint file: reader, card, coverage, each layer beside a fresh one."""
    with contextlib.redirect_stdout(sys.stderr):
        report = _inspect(ckpt, arch, method, prefix, pictures, trust_pickle)
    if as_json:
        print_json(report)
    else:
        _print_inspection(report)
    if "error" in report:
        raise CheckpointError(report["error"])


def _inspect(
    ckpt: str,
    arch: str | None,
    method: str | None,
    prefix: str | None,
    pictures: Path | None,
    trust_pickle: bool,
) -> dict[str, Any]:
    from vicregl_bench.backbones.layer_statistics import constant, layer_statistics, untrained
    from vicregl_bench.backbones.names import is_random
    from vicregl_bench.backbones.source import read_backbone
    from vicregl_bench.backbones.zoo import find_architecture
    from vicregl_bench.checkpoints import find_reader, read_file, summarise_file

    if is_random(ckpt):
        raise ConfigError("inspect takes a file; random weights have nothing to inspect")
    if method is not None:
        find_reader(method)
    if arch is not None:
        find_architecture(arch)
    contents = summarise_file(read_file(Path(ckpt), trust_pickle=trust_pickle)).to_dict()
    try:
        source = read_backbone(
            ckpt, arch=arch, method=method, prefix=prefix, trust_pickle=trust_pickle
        )
    except CheckpointError as error:
        return {"file": ckpt, "contents": contents, "error": str(error)}
    layers = layer_statistics(source)
    notes = list(source.notes)
    same = constant(layers)
    if same:
        notes.append(f"{len(same)} of {len(layers)} weights are constant, e.g. {same[0]}")
    fresh = untrained(layers)
    if fresh:
        notes.append(
            f"{len(fresh)} of {len(layers)} weights look untrained (standard deviation and "
            f"kurtosis of a fresh initialisation), e.g. {fresh[0]}"
        )
    if pictures is not None:
        notes += _doubts(source, pictures)
    return {
        "file": ckpt,
        "contents": contents,
        "method": source.card.method,
        "arch": source.arch,
        "weights_sha256": source.weights_sha256,
        "file_sha256": source.file_sha256,
        "card": source.card.to_dict(),
        "coverage": source.coverage,
        "layers": [row.to_dict() for row in layers],
        "notes": notes,
        "facts": list(source.facts),
    }


def _doubts(source: Any, folder: Path) -> list[str]:
    import_engine()
    from vicregl_bench.backbones.fit import PICTURES, SIDE, doubts
    from vicregl_bench.backbones.pictures import centre_crops, find_pictures

    crops = centre_crops(find_pictures(folder, PICTURES), SIDE)
    found = list(doubts(source, crops))
    return found or ["the BatchNorm statistics on the pictures raise no doubt"]


def _print_inspection(report: dict[str, Any]) -> None:
    if "error" in report:
        print_text("\n".join([report["file"], "", "contents", *_tree(report["contents"])]))
        return
    lines = [
        f"{report['file']}: {report['method']}, {report['arch']}",
        *(f"note: {note}" for note in report["notes"]),
        *report["facts"],
        "",
        f"weights sha256 {report['weights_sha256']}",
        f"file sha256    {report['file_sha256']}",
        "",
        "contents",
        *_tree(report["contents"]),
        "",
        "coverage of the backbone",
        *_tree(report["coverage"]),
        "",
        "card",
        *_tree(report["card"]),
        "",
        "weights beside a fresh initialisation",
    ]
    print_text("\n".join(lines))
    print_rows(
        ["weight", "shape", "std", "fresh", "kurtosis", "fresh", "dead outputs"],
        [
            [
                row["key"],
                " x ".join(map(str, row["shape"])),
                f"{row['std']:.4f}",
                f"{row['fresh_std']:.4f}",
                f"{row['kurtosis']:.1f}",
                f"{row['fresh_kurtosis']:.1f}",
                f"{100 * row['dead']:.1f} %",
            ]
            for row in report["layers"]
        ],
    )


def _tree(value: Any, indent: str = "  ") -> list[str]:
    if isinstance(value, dict):
        lines: list[str] = []
        for key, item in value.items():
            if isinstance(item, dict) or (isinstance(item, list) and item and _is_tree(item[0])):
                lines += [f"{indent}{key}", *_tree(item, indent + "  ")]
            elif item not in (None, "", {}, []):
                lines.append(f"{indent}{key}: {_short(item)}")
        return lines
    if isinstance(value, list):
        return [line for item in value for line in _tree(item, indent)]
    return [f"{indent}{value}"]


def _is_tree(item: Any) -> bool:
    return isinstance(item, dict | list)


def _short(item: Any, most: int = 6) -> str:
    if not isinstance(item, list):
        return str(item)
    text = ", ".join(map(str, item[:most]))
    return f"{len(item)}: {text}, ..." if len(item) > most else text or "none"


def convert(
    ckpt: Ckpt,
    to: Annotated[_Format, typer.Option(help="Whose key names and container to write.")],
    out: Annotated[Path, typer.Option(help="File to write; .safetensors where the format allows.")],
    arch: Arch = None,
    method: Method = None,
    prefix: Prefix = None,
    trust_pickle: Trust = False,
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it exists.")] = False,
    as_json: Json = False,
) -> None:
    """Write a checkpoint's backbone under another project's names, value for value."""
    from vicregl_bench.checkpoints.convert import convert_state, save_converted

    with contextlib.redirect_stdout(sys.stderr):
        from vicregl_bench.backbones.names import is_random
        from vicregl_bench.backbones.source import read_backbone

        if is_random(ckpt):
            raise ConfigError("convert takes a file; random weights have nothing to convert")
        if out.exists() and Path(ckpt).exists() and out.samefile(ckpt):
            raise ConfigError(f"{out} is the checkpoint itself; choose another --out")
        source = read_backbone(
            ckpt, arch=arch, method=method, prefix=prefix, trust_pickle=trust_pickle
        )
        converted = convert_state(source.state_dict, source.architecture.family, to.value)
        save_converted(converted, to.value, out, card=source.card.to_dict(), force=force)
    notes = [*source.notes, *_not_carried(source)]
    if as_json:
        made = {"out": str(out), "to": to.value, "arch": source.arch, "tensors": len(converted)}
        print_json({**made, "notes": notes})
        return
    print_text(f"{out}: {source.arch}, {len(converted)} tensors under the names of {to.value}")
    for note in notes:
        print_text(f"note: {note}")


def _not_carried(source: Any) -> list[str]:
    """What no tensor carries, and the reader of the new file has to be told."""
    from vicregl_bench.checkpoints.card import IMAGENET_MEAN, IMAGENET_STD

    card, notes = source.card, []
    if source.arch.endswith("_v1"):
        notes.append(
            "the file does not tell that strides are on the first 1x1: --arch " + source.arch
        )
    if source.arch.endswith("heads"):
        notes.append(f"the file does not tell its number of heads: --arch {source.arch}")
    if (card.mean, card.std, card.channel_order) != (IMAGENET_MEAN, IMAGENET_STD, "rgb"):
        notes.append(
            f"the file does not tell its input: {card.channel_order}, mean {list(card.mean)}, "
            f"std {list(card.std)} on the scale of 0 to 255"
        )
    return notes


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.command()(inspect)
    app.command()(convert)
