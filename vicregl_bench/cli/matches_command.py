"""`vicregl-bench matches`: draw the local matches of a pretrained network."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vicregl_bench.cli.output import print_json, print_text
from vicregl_bench.errors import ConfigError

if TYPE_CHECKING:
    from pretrain.draw import ViewMatches

_UNPROJECTED = "no local projector: matches of the backbone's own features"


def matches(
    ckpt: Annotated[Path, typer.Option(help="model.pth of `vicregl-bench pretrain`.")],
    image: Annotated[Path, typer.Option(help="Picture of which two views are matched.")],
    out: Annotated[
        Path | None, typer.Option(help="PNG to write; default: IMAGE's name + .matches.png, here.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Another seed, other crops.")] = 0,
    best: Annotated[int, typer.Option(min=1, help="Matches drawn, of all cells of view 1.")] = 10,
    as_json: Annotated[bool, typer.Option("--json", help="The matches on stdout.")] = False,
) -> None:
    """Draw the best local matches between two views of a picture (VICRegL, figures 3 to 5)."""
    target = out or Path(f"{image.stem}.matches.png")
    if target.suffix.lower() != ".png":
        raise ConfigError(f"--out {target}: the drawing is a PNG, give a name that ends in .png")
    from pretrain.draw import draw_matches, find_matches, load_model, make_views
    from pretrain.export import card_of
    from pretrain.pictures import read_picture

    recipe, network = load_model(ckpt)
    picture = read_picture(image)
    found = find_matches(recipe, network, make_views(recipe, picture, seed), best)
    card = card_of(recipe, recipe.schedule.epochs)
    title = f"{card['title']}, {card['arch']}: {card['note']}"
    if not found.projected:
        title += f"\n{_UNPROJECTED}"
    try:
        draw_matches(picture, found, target, title)
    except OSError as error:
        raise ConfigError(f"--out {target}: cannot be written: {error.strerror}") from error
    _report(found, ckpt, image, target, seed, as_json)


def _report(
    found: "ViewMatches", ckpt: Path, image: Path, out: Path, seed: int, as_json: bool
) -> None:
    kinds = {"feature": found.feature, "location": found.location}
    if as_json:
        views: list[dict[str, Any]] = [
            {"top": i, "left": j, "height": h, "width": w, "flip": bool(flip), "map_side": side}
            for (i, j, h, w, flip), side in zip(found.crops.tolist(), found.sides, strict=True)
        ]
        print_json(
            {
                "ckpt": str(ckpt),
                "image": str(image),
                "out": str(out),
                "seed": seed,
                "projected": found.projected,
                "views": views,
                **{kind: [asdict(match) for match in listed] for kind, listed in kinds.items()},
            }
        )
        return
    for kind, listed in kinds.items():
        unit = " px" if kind == "location" else ""
        print_text(
            f"{kind}-based: {len(listed)} matches of {found.sides[0] ** 2} cells, distance "
            f"{listed[0].distance:.3g} to {listed[-1].distance:.3g}{unit}"
        )
    if not found.projected:
        print_text(f"note: {_UNPROJECTED}")
    print_text(f"drawing: {out}")


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command()(matches)
