import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tests.tables.test_paper_table import entry
from vicregl_bench.errors import ConfigError
from vicregl_bench.tables.layout import CAPTIONS
from vicregl_bench.tables.paper_output import paper_grid
from vicregl_bench.tables.paper_table import paper_table
from vicregl_bench.tables.rendering import (
    Grid,
    Heading,
    Part,
    RowGroup,
    heading_levels,
    latex_text,
    render,
    text_cell,
)

GRID = Grid(
    caption="A & B <c>",
    headings=(("Name",), ("Seg.", "VOC", "Frozen"), ("Seg.", "VOC", "FT"), ("AP",)),
    leads=1,
    groups=(
        RowGroup("Ours", (((Part("a_b|c"),), (Part("1.0", True, (1,)),), *[text_cell("–")] * 2),)),
        RowGroup("Empty", ()),
    ),
    footnotes=("x < 5 % of $y",),
    remarks=("50.0 ± 1.0",),
)
VOID = {"br"}


class Table(HTMLParser):
    """Checks that tags are closed in order, and fills the grid of cells with their spans."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.rows: list[tuple[str, list[dict[str, str]]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.open.append(tag)
        if tag == "tr":
            self.rows.append((self.open[-2], []))
        if tag in ("td", "th"):
            self.rows[-1][1].append({"tag": tag, **{key: value or "" for key, value in attrs}})

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def columns_of_rows(html: str) -> list[int]:
    """How many columns each row covers, with what hangs down from the rows above."""
    table = Table()
    table.feed(html)
    assert table.open == []
    counts: list[int] = []
    hanging: list[tuple[int, int]] = []
    for section, cells in table.rows:
        if section != "thead":
            hanging = []
        width = sum(columns for columns, _ in hanging)
        for cell in cells:
            assert cell["tag"] == "td" or cell["scope"] in ("col", "colgroup", "row", "rowgroup")
            columns = int(cell.get("colspan", "1"))
            width += columns
            hanging.append((columns, int(cell.get("rowspan", "1"))))
        hanging = [(columns, rows - 1) for columns, rows in hanging if rows > 1]
        counts.append(width)
    assert hanging == []
    return counts


def test_headings_join_where_those_above_are_one() -> None:
    assert heading_levels(GRID) == [
        [Heading("Seg.", 2), Heading("AP", 1, 3)],
        [Heading("VOC", 2)],
        [Heading("Frozen", 1), Heading("FT", 1)],
    ]


def test_last_headings_stay_apart() -> None:
    grid = Grid("", (("A", "Frozen"), ("A", "Frozen"), ("B", "Frozen")), 0, ())
    assert heading_levels(grid)[1] == [Heading("Frozen", 1)] * 3


def test_markdown() -> None:
    lines = render(GRID, "markdown").splitlines()
    cells = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines[2:6]]
    assert cells[0] == ["Name", "Seg. / VOC / Frozen", "Seg. / VOC / FT", "AP"]
    assert cells[2:] == [["**Ours**", "", "", ""], [r"a_b\|c", "**1.0** [1]", "–", "–"]]
    assert lines[7:] == ["[1] x < 5 % of $y", "", "50.0 ± 1.0"]
    assert "Empty" not in "".join(lines)


def test_latex() -> None:
    lines = render(GRID, "latex").splitlines()
    assert r"\caption{A \& B \textless{}c\textgreater{}}" in lines
    assert r"\begin{tabular}{lccc}" in lines
    assert lines[1] == r"% \usepackage{amssymb,booktabs,graphicx}"
    assert lines[7:13] == [
        r" & \multicolumn{2}{c}{Seg.} &  \\",
        r"\cmidrule(lr){2-3}",
        r" & \multicolumn{2}{c}{VOC} &  \\",
        r"\cmidrule(lr){2-3}",
        r"Name & Frozen & FT & AP \\",
        r"\midrule",
    ]
    assert lines[13:15] == [
        r"\multicolumn{4}{l}{\textit{Ours}} \\",
        r"a\_b\textbar{}c & \textbf{1.0$^{1}$} & -- & -- \\",
    ]
    assert r"$^{1}$ x \textless{} 5 \% of \$y\par" in lines
    assert latex_text("\\{α ± 1}") == r"\textbackslash{}\{$\alpha$ $\pm$ 1\}"
    assert latex_text('`a --b` "c" – ---') == (
        r"\textasciigrave{}a -{}-b\textasciigrave{} ''c'' -- -{}-{}-"
    )


@pytest.mark.parametrize("name", ["[x] y", "*"])
def test_what_begins_a_latex_row_is_no_argument_of_the_line_before(name: str) -> None:
    rows = ((text_cell(name), text_cell(name)),) * 2
    latex = render(Grid("", ((name,), ("AP",)), 1, (RowGroup("", rows),)), "latex")
    assert latex.count(f"{{}}{name} & ") == 3
    assert not re.search(r"(\\\\|rule)\s*[\[*]", latex)


def test_long_latex_cells_stand_in_lines() -> None:
    name = (Part("backbone_of_a_long_name.pth [a *]", True, (1, 2)),)
    rows = ((name, text_cell("–")),)
    latex = render(
        Grid("", (("A",), ("voc_det_linear v1 (ci)",)), 1, (RowGroup("", rows),)), "latex"
    )
    head = r"\begin{tabular}[b]{@{}c@{}}voc\_det\_linear v1 \\ (ci)\end{tabular}"
    cell = r"backbone\_of\_a\_long\_name.pth \\ {}[a *]$^{1,2}$\end{tabular}}"
    assert rf"A & {head} \\" in latex
    assert rf"\textbf{{\begin{{tabular}}[t]{{@{{}}l@{{}}}}{cell} & -- \\" in latex


@pytest.mark.skipif(not shutil.which("pdflatex"), reason="no pdflatex in the path")
@pytest.mark.parametrize("number", ["1", "2", "5"])
def test_latex_is_compiled_and_fits_the_page(number: str, tmp_path: Path) -> None:
    signs = " ".join([*map(chr, range(33, 127)), *"é±×✓†↳αγ−–", "[x]", "--"])
    hard = entry(
        name=f"{signs}/a_name_of_fifty_letters_that_does_not_break_up.pth", deviations=(signs,)
    )
    grid = paper_grid(paper_table(number, [hard]))
    text = render(grid, "latex")
    packages = text.splitlines()[1].removeprefix("% ")
    parts = [r"\documentclass{article}", packages, r"\begin{document}", text, r"\end{document}"]
    (tmp_path / "table.tex").write_text("\n".join(parts))
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "table.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, errors="replace")
    assert done.returncode == 0, done.stdout[-2000:]
    log = (tmp_path / "table.log").read_text(errors="replace")
    assert "Missing character" not in log and "Overfull" not in log


def test_html() -> None:
    html = render(GRID, "html")
    assert columns_of_rows(html) == [4, 4, 4, 4, 4]
    assert "<td><strong>1.0</strong><sup>1</sup></td>" in html
    assert "<caption>A &amp; B &lt;c&gt;</caption>" in html
    assert "<p><sup>1</sup> x &lt; 5 % of $y</p>" in html
    left = 'style="text-align: left"'
    assert f'<th scope="rowgroup" colspan="4" {left}>Ours</th>' in html
    assert f'<th scope="row" {left}>a_b|c</th>' in html
    assert f'<th scope="col" {left} rowspan="3">Name</th>' in html
    assert html.count(left) == 3 and '<table class="results">' in html


def test_an_unknown_form() -> None:
    with pytest.raises(ConfigError, match="'word': markdown, latex, html"):
        render(GRID, "word")


@pytest.mark.parametrize("number", CAPTIONS)
def test_every_table_of_the_paper_is_well_formed(number: str) -> None:
    grid = paper_grid(paper_table(number, [entry(name="a_&<b>.pth", deviations=("50 % {x}",))]))
    width = len(grid.headings)
    assert set(columns_of_rows(render(grid, "html"))) == {width}
    latex = render(grid, "latex")
    bare = re.sub(r"\\[\\{}&%$#_]", "", latex.replace("\\\\", ""))
    depth = 0
    for sign in bare:
        depth += (sign == "{") - (sign == "}")
        assert depth >= 0
    assert depth == 0 and bare.count("$") % 2 == 0
    body = latex.split("\\toprule")[1].split("\\bottomrule")[0].splitlines()
    for line in (line for line in body if line.endswith(r"\\")):
        spans = [int(n) for n in re.findall(r"\\multicolumn\{(\d+)\}", line)]
        ends = len(re.findall(r"(?<!\\)&", line)) + 1
        assert ends - len(spans) + sum(spans) == width, line
    markdown = [ln for ln in render(grid, "markdown").splitlines() if ln.startswith("|")]
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in markdown} == {width + 1}
