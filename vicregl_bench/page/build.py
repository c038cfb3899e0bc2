"""One HTML file from the page's contents: libraries, data and all inside."""

import base64
import json
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vicregl_bench.atomic import write_atomic
from vicregl_bench.errors import ConfigError
from vicregl_bench.page.contents import Contents

TITLE = "vicregl-bench records"
_GENERATOR = "vicregl-bench page"
_HERE = Path(__file__).parent
_SCRIPTS = ("values.js", "tables.js", "record.js", "plots.js", "page.js")


@dataclass(frozen=True)
class _Library:
    """DataTables: a module and its style, as itables brings them."""

    script: str
    style: str


def build_page(contents: Contents, out: Path, title: str = TITLE) -> Path:
    """Write `index.html` into a folder, whole or not at all.

    The file asks for nothing else, so that it works from the file system. Texts of records are
    never written as markup: the template escapes them, inlined JSON has no `<`, and what is large
    (every record, the libraries) is deflated, in base64.

    Args:
        contents: of the page.
        out: folder, made if it is not there.
        title: of the page.

    Returns:
        The file.

    Raises:
        ConfigError: `index.html` is there and is no page of ours, or `out` is a file.
        OSError: as the file system says.
    """
    path = out / "index.html"
    if out.exists() and not out.is_dir():
        raise ConfigError(f"--out {out} is a file; name a folder for index.html")
    if path.exists() and not _is_ours(path):
        raise ConfigError(f"{path} was not made by `vicregl-bench page`; choose another --out")
    write_atomic(path, render_page(contents, title).encode())
    return path


def render_page(contents: Contents, title: str = TITLE) -> str:
    """The page as text."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from plotly.offline import get_plotlyjs  # type: ignore[import-untyped]

    environment = Environment(
        loader=FileSystemLoader(_HERE), autoescape=True, undefined=StrictUndefined
    )
    library = _datatables()
    return environment.get_template("template.html.j2").render(
        title=title,
        generator=_GENERATOR,
        contents=contents,
        checkpoints=len({(row["weights"], row["backbone"]) for row in contents.rows}),
        tasks=sorted({column["task"] for column in contents.columns}),
        profiles=sorted({column["profile"] for column in contents.columns}),
        summary=_inlined_json(
            {
                "runs": contents.runs,
                "columns": contents.columns,
                "rows": contents.rows,
                "published": contents.published,
                "printed": contents.printed,
            }
        ),
        details=_inlined_json([_deflated(text) for text in contents.details]),
        style=_inlined("style", library.style, (_HERE / "page.css").read_text()),
        datatables=_deflated(library.script),
        plotly=_deflated(get_plotlyjs()),
        script=_inlined("script", *((_HERE / name).read_text() for name in _SCRIPTS)),
    )


def _is_ours(path: Path) -> bool:
    with path.open("rb") as stream:
        return f'name="generator" content="{_GENERATOR}"'.encode() in stream.read(2000)


def _datatables() -> _Library:
    import itables

    folder = Path(itables.__file__).parent / "html"
    return _Library(*((folder / f"dt_bundle.{kind}").read_text() for kind in ("js", "css")))


def _inlined(tag: str, *texts: str) -> str:
    """Our own and the libraries' code as the content of an element, which nothing in it ends."""
    text = "\n".join(texts)
    if f"</{tag}" in text.lower() or "<!--" in text:
        raise ValueError(f"code to be inlined holds </{tag} or <!--")
    return text


def _inlined_json(value: Any) -> str:
    """JSON as the content of a script element; a `<` can only be within a string."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")


def _deflated(text: str) -> str:
    """Text as base64 of its zlib stream."""
    return base64.b64encode(zlib.compress(text.encode(), 9)).decode()
