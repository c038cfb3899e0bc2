"""Tables of text as markdown, LaTeX and HTML: headings in levels, groups of rows, footnotes."""

import re
import textwrap
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

import pandas as pd

from vicregl_bench.errors import ConfigError


@dataclass(frozen=True)
class Part:
    """A piece of a cell, with the numbers of its footnotes."""

    text: str
    bold: bool = False
    marks: tuple[int, ...] = ()


Cell = tuple[Part, ...]
"""Pieces that follow each other, with a slash between them."""


@dataclass(frozen=True)
class RowGroup:
    """Rows under one heading ("": none)."""

    title: str
    rows: tuple[tuple[Cell, ...], ...]


@dataclass(frozen=True)
class Grid:
    """A table.

    Attributes:
        caption: above it.
        headings: of each column its path of headings, the outermost first.
        leads: how many columns on the left say what a row is.
        groups: of rows with one cell a column.
        footnotes: explanations of the marks, which count from 1.
        remarks: sentences below the table.
    """

    caption: str
    headings: tuple[tuple[str, ...], ...]
    leads: int
    groups: tuple[RowGroup, ...]
    footnotes: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Heading:
    """A heading over `columns` columns and `levels` lines."""

    text: str
    columns: int
    levels: int = 1


def text_cell(text: str) -> Cell:
    """A cell of plain text."""
    return (Part(text),)


def render(grid: Grid, form: str) -> str:
    """A table as text, without a line break at its end.

    Line breaks and control characters in its texts, such as the names of files, are blanks.

    Args:
        grid: the table.
        form: "markdown", "latex" or "html".

    Raises:
        ConfigError: another form.
    """
    forms: dict[str, Callable[[Grid], str]] = {
        "markdown": render_markdown,
        "latex": render_latex,
        "html": render_html,
    }
    if form not in forms:
        raise ConfigError(f"no table as {form!r}: {', '.join(forms)}")
    return forms[form](_plain(grid))


def _plain(grid: Grid) -> Grid:
    def cell(parts: Cell) -> Cell:
        return tuple(replace(part, text=_line(part.text)) for part in parts)

    return replace(
        grid,
        caption=_line(grid.caption),
        headings=tuple(tuple(map(_line, path)) for path in grid.headings),
        groups=tuple(
            RowGroup(_line(group.title), tuple(tuple(map(cell, row)) for row in group.rows))
            for group in grid.groups
        ),
        footnotes=tuple(map(_line, grid.footnotes)),
        remarks=tuple(map(_line, grid.remarks)),
    )


def _line(text: str) -> str:
    return " ".join("".join(one if one.isprintable() else " " for one in text).split())


def heading_levels(grid: Grid) -> list[list[Heading]]:
    """The lines of headings of the columns after the leading ones, the outermost first.

    Equal headings side by side are one, where those above them are one too. A heading with nothing
    below it reaches down to the last line.
    """
    paths = grid.headings[grid.leads :]
    depth = max((len(path) for path in paths), default=1)
    levels: list[list[Heading]] = []
    for level in range(depth):
        line = []
        for key, same in groupby(enumerate(paths), key=lambda one: _stem(one, level)):
            width = len(list(same))
            if key is not None:
                stem = key[1]
                last = len(stem) - 1 == level and isinstance(key[0], int)
                line.append(Heading(stem[-1], width, depth - level if last else 1))
        levels.append(line)
    return levels


def _stem(
    numbered: tuple[int, tuple[str, ...]], level: int
) -> tuple[int | None, tuple[str, ...]] | None:
    """What columns under one heading share; the last heading of a column is its own."""
    index, path = numbered
    if level >= len(path):
        return None
    return (index if level == len(path) - 1 else None), path[: level + 1]


def _groups(grid: Grid) -> Iterator[RowGroup]:
    return (group for group in grid.groups if group.rows)


def _joined(cell: Cell, one: Callable[[Part], str]) -> str:
    return " / ".join(one(part) for part in cell)


def render_markdown(grid: Grid) -> str:
    """A pipe table; headings are joined by slashes, heads of groups are bold rows."""

    def one(part: Part) -> str:
        text = part.text.replace("|", r"\|")
        text = f"**{text}**" if part.bold else text
        marks = ", ".join(map(str, part.marks))
        return f"{text} [{marks}]" if marks else text

    width = len(grid.headings)
    lines = []
    for group in _groups(grid):
        if group.title:
            title = _joined((Part(group.title, bold=True),), one)
            lines.append([title, *[""] * (width - 1)])
        lines += [[_joined(cell, one) for cell in row] for row in group.rows]
    heads = [_joined(tuple(map(Part, path)), one) for path in grid.headings]
    table = pd.DataFrame(lines, columns=heads).to_markdown(index=False, disable_numparse=True)
    blocks = [f"**{grid.caption}**", str(table)]
    notes = [f"[{number}] {text}" for number, text in enumerate(grid.footnotes, 1)]
    return "\n\n".join([*blocks, *notes, *grid.remarks])


_LATEX = {
    "\\": r"\textbackslash{}",
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': "''",
    "`": r"\textasciigrave{}",
    "–": "--",
    "−": "$-$",
    "±": r"$\pm$",
    "×": r"$\times$",
    "α": r"$\alpha$",
    "γ": r"$\gamma$",
    "✓": r"$\checkmark$",
    "†": r"$^\dagger$",
    "↳": r"$\hookrightarrow$",
}
_LATEX_TABLE = str.maketrans(_LATEX)
_LATEX_WIDTH = 20
"""Characters of a line in a cell, longer words aside."""


def latex_text(text: str) -> str:
    """Text with everything escaped that LaTeX takes for itself; two hyphens are no dash."""
    return "{}".join(one.translate(_LATEX_TABLE) for one in re.split("(?<=-)(?=-)", text))


def render_latex(grid: Grid) -> str:
    r"""A booktabs table in a float, heads of groups across all columns.

    Long names and headings stand in several lines; a table that is still wider than the text is
    made smaller. A comment in it names the packages it asks for. pdflatex stops at letters
    that its fonts do not have (names in other scripts); lualatex does not.
    """

    def one(part: Part) -> str:
        marks = ",".join(map(str, part.marks))
        text = _latex_lines(part.text, "t", "l", f"$^{{{marks}}}$" if marks else "")
        return rf"\textbf{{{text}}}" if part.bold else text

    width, leads = len(grid.headings), grid.leads
    lines = [
        r"\begin{table}",
        r"% \usepackage{amssymb,booktabs,graphicx}",
        r"\centering",
        rf"\caption{{{latex_text(grid.caption)}}}",
        r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",
        rf"\begin{{tabular}}{{{'l' * leads}{'c' * (width - leads)}}}",
        r"\toprule",
        *_latex_heads(grid),
    ]
    for group in _groups(grid):
        lines.append(r"\midrule")
        if group.title:
            title = latex_text(group.title)
            lines.append(rf"\multicolumn{{{width}}}{{l}}{{\textit{{{title}}}}} \\")
        lines += [_latex_row([_joined(cell, one) for cell in row]) for row in group.rows]
    lines += [r"\bottomrule", r"\end{tabular}}"]
    notes = [f"$^{{{number}}}$ {latex_text(text)}" for number, text in enumerate(grid.footnotes, 1)]
    notes += [latex_text(text) for text in grid.remarks]
    if notes:
        lines += ["", r"\raggedright\footnotesize", *(rf"{note}\par" for note in notes)]
    return "\n".join([*lines, r"\end{table}"])


def _latex_lines(text: str, place: str, column: str, marks: str = "") -> str:
    """Text of a cell, when long in several lines, and its marks at the end."""
    short = textwrap.wrap(text, _LATEX_WIDTH, break_long_words=False, break_on_hyphens=False)
    if len(short) < 2:
        return latex_text(text) + marks
    lines = r" \\ ".join(_guarded(latex_text(line)) for line in short)
    return rf"\begin{{tabular}}[{place}]{{@{{}}{column}@{{}}}}{lines}{marks}\end{{tabular}}"


def _latex_row(cells: Sequence[str]) -> str:
    return _guarded(" & ".join(cells) + r" \\")


def _guarded(text: str) -> str:
    r"""A line that the `\\` or rule before it takes no `[` or `*` of."""
    return f"{{}}{text}" if text.startswith(("[", "*")) else text


def _latex_heads(grid: Grid) -> list[str]:
    """Lines of headings, the leading columns' in the last; rules below those that have others."""
    levels = heading_levels(grid)
    depth = max(len(path) for path in grid.headings[grid.leads :] or [("",)])
    lines = []
    paths = grid.headings[grid.leads :]
    leads = [_latex_lines(path[-1], "b", "l") for path in grid.headings[: grid.leads]]
    for level, _ in enumerate(levels):
        last = level == depth - 1
        cells, rules, column = list(leads) if last else [""] * grid.leads, [], grid.leads + 1
        for key, same in groupby(paths, key=lambda path: _latex_stem(path, level, depth)):
            width, text = len(list(same)), latex_text(key[-1]) if key else ""
            if last:
                cells += [_latex_lines(key[-1], "b", "c")] * width
            elif width == 1:
                cells.append(text)
            else:
                cells.append(rf"\multicolumn{{{width}}}{{c}}{{{text}}}")
            if text and not last:
                rules.append(rf"\cmidrule(lr){{{column}-{column + width - 1}}}")
            column += width
        lines.append(_latex_row(cells))
        if rules:
            lines.append(" ".join(rules))
    return lines


def _latex_stem(path: tuple[str, ...], level: int, depth: int) -> tuple[str, ...]:
    """What columns under one heading share; the last headings stand in the last line."""
    if level == depth - 1:
        return path
    return path[: level + 1] if level < len(path) - 1 else ()


_HTML = """\
<figure class="paper-table">
<table class="results">
<caption>{{ grid.caption }}</caption>
<thead>
{% for level in levels -%}
<tr>
{%- if loop.first %}{% for path in grid.headings[:grid.leads] -%}
<th scope="col" style="text-align: left"
{%- if levels|length > 1 %} rowspan="{{ levels|length }}"{% endif %}>
{{- path[-1] }}</th>
{%- endfor %}{% endif -%}
{%- for head in level -%}
<th scope="{{ 'colgroup' if head.columns > 1 else 'col' }}"
{%- if head.columns > 1 %} colspan="{{ head.columns }}"{% endif %}
{%- if head.levels > 1 %} rowspan="{{ head.levels }}"{% endif %}>{{ head.text }}</th>
{%- endfor -%}
</tr>
{% endfor -%}
</thead>
{% for group in groups -%}
<tbody>
{% if group.title -%}
<tr><th scope="rowgroup" colspan="{{ grid.headings|length }}" style="text-align: left">
{{- group.title }}</th></tr>
{% endif -%}
{% for row in group.rows -%}
<tr>
{%- for cell in row -%}
{%- if loop.first and grid.leads -%}
<th scope="row" style="text-align: left">{{ joined(cell) }}</th>
{%- else -%}
<td>{{ joined(cell) }}</td>
{%- endif -%}
{%- endfor -%}
</tr>
{% endfor -%}
</tbody>
{% endfor -%}
</table>
{% if grid.footnotes or grid.remarks -%}
<figcaption>
{% for text in grid.footnotes -%}
<p><sup>{{ loop.index }}</sup> {{ text }}</p>
{% endfor -%}
{% for text in grid.remarks -%}
<p>{{ text }}</p>
{% endfor -%}
</figcaption>
{% endif -%}
</figure>"""


def render_html(grid: Grid) -> str:
    """One fragment, a figure with the table and its notes; every heading says its scope.

    It looks after itself on any page: headings of rows, which browsers centre, stand on the left.
    """
    from jinja2 import Environment
    from markupsafe import Markup, escape

    def one(part: Part) -> Markup:
        text = escape(part.text)
        text = Markup("<strong>{}</strong>").format(text) if part.bold else text
        marks = ",".join(map(str, part.marks))
        return text + Markup("<sup>{}</sup>").format(marks) if marks else text

    def joined(cell: Sequence[Part]) -> Markup:
        return Markup(" / ").join(one(part) for part in cell)

    template = Environment(autoescape=True).from_string(_HTML)
    html = template.render(
        grid=grid, levels=heading_levels(grid), groups=list(_groups(grid)), joined=joined
    )
    return re.sub(r"\n{2,}", "\n", html)
