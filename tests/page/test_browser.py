"""The page in Debian's chromium, from the file system."""

import json
import random
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tests.page.made import RATES, made_entries, made_entry
from vicregl_bench.page import Contents, build_page, page_contents
from vicregl_bench.tables.frames import number_text

pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
from playwright.sync_api import Browser, Page, expect, sync_playwright

CHROMIUM = shutil.which("chromium")
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
COUNT = 1000
HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>"

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium in the path")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    expect.set_options(timeout=20_000)  # a slow machine reads plotly for seconds
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def many() -> Contents:
    return page_contents(list(made_entries(COUNT)))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, many: Contents) -> Path:
    return build_page(many, tmp_path_factory.mktemp("many"))


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two checkpoints with alpha and both scores, one that is called what no file should be."""
    first: dict[str, float | None] = {"a": 10.0, "b": 30.0, "c": None, "<i>d</i>": 20.0}
    second: dict[str, float | None] = {"a": 15.0, "b": 20.0, "c": 1.0, "<i>d</i>": 21.0}
    entries = [
        made_entry(1, name="one.pth", weights="a" * 64, alpha=0.75, score=40.0, by_class=first),
        made_entry(2, name="two.pth", weights="b" * 64, alpha=1.0, score=30.0, by_class=second),
        made_entry(3, name="one.pth", weights="a" * 64, alpha=0.75, task="folder_linear", score=60),
        made_entry(4, name="two.pth", weights="b" * 64, alpha=1.0, task="folder_linear", score=70),
        made_entry(5, name=HOSTILE, method=HOSTILE, deviations=(HOSTILE,), score=5.0),
    ]
    folder = tmp_path_factory.mktemp("small")
    return build_page(page_contents(entries), folder, title=HOSTILE)


class Opened:
    """A page with what it asked for and complained of."""

    def __init__(self, browser: Browser, path: Path, **options: Any) -> None:
        self.context = browser.new_context(**options)
        self.page = self.context.new_page()
        self.page.set_default_timeout(20_000)
        self.requests: list[str] = []
        self.complaints: list[str] = []
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on(
            "console",
            lambda said: (
                self.complaints.append(said.text) if said.type in ("error", "warning") else None
            ),
        )
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("dialog", lambda dialog: self.complaints.append(dialog.message))
        self.page.goto(path.as_uri())
        self.page.wait_for_selector("html[data-ready]")

    def __enter__(self) -> Page:
        return self.page

    def __exit__(self, *_: object) -> None:
        if _[0] is None:
            assert self.complaints == []
            foreign = [url for url in self.requests if not url.startswith(("file:", "blob:null"))]
            assert foreign == []
            assert len([url for url in self.requests if url.startswith("file:")]) == 1
        self.context.close()


def order_of(page: Page) -> list[int]:
    """The runs in the order of the rows of the table of records."""
    order: list[int] = page.eval_on_selector_all(
        "#records-table tbody [data-choose]", "boxes => boxes.map(b => Number(b.dataset.choose))"
    )
    return order


def page_runs(page: Page) -> list[dict[str, Any]]:
    runs: list[dict[str, Any]] = json.loads(page.locator("#summary").text_content() or "")["runs"]
    return runs


def heading(page: Page, table: str, name: str) -> Any:
    return page.locator(f"#{table} thead th").filter(has_text=name).first


def show_all(page: Page, table: str) -> None:
    page.select_option(f"[aria-controls={table}].dt-input", "-1")


def test_a_thousand_records_are_shown_and_sorted_as_pandas_does(
    browser: Browser, site: Path, many: Contents
) -> None:
    runs = many.runs
    frame = pd.DataFrame(runs)
    assert frame["score"].isna().sum() > 50
    with Opened(browser, site) as page:
        expect(page.locator("#records .dt-info")).to_have_text("Showing 1 to 50 of 1,000 entries")
        show_all(page, "records-table")
        assert sorted(order_of(page)) == list(range(COUNT))
        score = heading(page, "records-table", "Score")
        for direction in ("descending", "ascending"):
            score.locator(".dt-column-order").click()
            expect(score).to_have_attribute("aria-sort", direction)
            wanted = frame.sort_values(
                "score", ascending=direction == "ascending", na_position="last"
            )
            shown = frame["score"].iloc[order_of(page)]
            pd.testing.assert_series_equal(
                shown.reset_index(drop=True), wanted["score"].reset_index(drop=True)
            )
        checkpoint = heading(page, "records-table", "Checkpoint")
        checkpoint.locator(".dt-column-order").click()
        expect(checkpoint).to_have_attribute("aria-sort", "ascending")
        names = [runs[index]["checkpoint"] for index in order_of(page)]
        assert names == sorted(names, key=lambda name: int(name[10:-4]))  # 2 before 10


def test_the_leaderboard_sorts_scores_with_missing_ones_last(
    browser: Browser, site: Path, many: Contents
) -> None:
    titles = [column["title"] for column in many.columns]
    at = titles.index("voc_linear v1 (ci)")
    scores = {
        row["checkpoint"]: many.runs[row["cells"][at]["run"]]["score"]
        for row in many.rows
        if at in row["cells"]
    }
    series = pd.Series({row["checkpoint"]: scores.get(row["checkpoint"]) for row in many.rows})
    with Opened(browser, site) as page:
        show_all(page, "leaderboard-table")
        column = heading(page, "leaderboard-table", "voc_linear v1 (ci)")
        for ascending in (False, True):
            column.locator(".dt-column-order").click()
            direction = "ascending" if ascending else "descending"
            expect(column).to_have_attribute("aria-sort", direction)
            names = page.locator("#leaderboard-table tbody td.first").all_inner_texts()
            wanted = series.astype(float).sort_values(ascending=ascending, na_position="last")
            assert len(names) == len(wanted) == len(many.rows)
            assert series[names].astype(float).dropna().tolist() == wanted.dropna().tolist()
            assert series[names].isna().tolist() == wanted.isna().tolist()


def test_filters_of_text_of_a_column_and_of_protocols(
    browser: Browser, site: Path, many: Contents
) -> None:
    runs = many.runs
    with Opened(browser, site) as page:
        page.fill("#records .dt-search input", "checkpoint12.pth")
        expect(page.locator("#records .dt-info")).to_contain_text("of 3 entries")
        page.fill("#records .dt-search input", "")
        method = heading(page, "records-table", "Method")
        method.scroll_into_view_if_needed()
        method.locator(".dtcc-button_dropdown").click()
        page.locator(".dtcc-dropdown .dtcc-list-buttons button", has_text="dino").click()
        kept = sum(run["method"] == "dino" for run in runs)
        assert 0 < kept < COUNT
        expect(page.locator("#records .dt-info")).to_contain_text(f"of {kept} entries")
        page.keyboard.press("Escape")
        columns = page.locator("#leaderboard-table thead th")
        before = columns.count()
        page.select_option("#only-task", "folder_linear")
        expect(columns).to_have_count(before - 2)
        shown = page.locator("#leaderboard-table thead").inner_text()
        assert "folder_linear" in shown and "voc_linear" not in shown
        with_score = {run["weights"] for run in runs if run["task"] == "folder_linear"}
        expect(page.locator("#leaderboard .dt-info")).to_contain_text(
            f"of {len(with_score)} entries"
        )


def test_a_record_opens_by_mouse_and_by_keyboard(browser: Browser, small: Path) -> None:
    with Opened(browser, small) as page:
        dialog = page.locator("#record")
        page.locator("[data-choose='0']").locator("xpath=ancestor::tr").locator(
            "td", has_text="voc_linear"
        ).click()
        expect(dialog).to_be_visible()
        text = dialog.inner_text()
        assert "one.pth" in text and "a" * 64 in text and "VOCdevkit" in text
        assert "lr 0.1 (best)" in text and "schedule.iters" not in text
        dialog.locator("summary", has_text="Settings").click()
        assert "schedule.iters" in dialog.inner_text()
        with page.expect_download() as download:
            dialog.locator("a[download]").click()
        saved = json.loads(Path(download.value.path()).read_text())
        assert saved["checkpoint"]["name"] == "one.pth" and saved["best"]["score"] == 40.0
        page.keyboard.press("Escape")
        expect(dialog).to_be_hidden()
        button = page.locator("#records-table [data-run='1']")
        button.focus()
        page.keyboard.press("Enter")
        expect(dialog).to_be_visible()
        expect(page.locator("#record-heading")).to_have_text("two.pth")
        page.keyboard.press("Escape")
        expect(button).to_be_focused()
        # a name of the leaderboard opens every record of its row
        page.locator("#leaderboard-table td.first button", has_text="one.pth").click()
        siblings = page.locator("#record-siblings button")
        expect(siblings).to_have_count(2)
        siblings.nth(1).click()
        expect(siblings.nth(1)).to_have_attribute("aria-current", "true")
        page.locator("#close").click()
        expect(dialog).to_be_hidden()


def test_headings_are_reached_by_tab_and_sorted_by_enter_and_space(
    browser: Browser, small: Path
) -> None:
    with Opened(browser, small) as page:
        page.locator("#records .dt-search input").focus()
        score = heading(page, "records-table", "Score")
        for _ in range(60):
            page.keyboard.press("Tab")
            if score.locator(".dt-column-order").evaluate("one => one === document.activeElement"):
                break
        outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert outline == "solid"
        page.keyboard.press("Enter")
        expect(score).to_have_attribute("aria-sort", "descending")
        assert order_of(page) == [3, 2, 0, 1, 4]
        page.keyboard.press("Space")
        expect(score).to_have_attribute("aria-sort", "ascending")
        assert order_of(page) == [4, 1, 0, 2, 3]


def test_two_chosen_records_are_compared_by_class(browser: Browser, small: Path) -> None:
    with Opened(browser, small) as page:
        assert page.evaluate("window.Plotly === undefined")  # not read before a plot is shown
        page.locator("[data-choose='0']").focus()
        page.keyboard.press("Space")
        page.locator("[data-choose='1']").check()
        page.wait_for_selector("#classes-plot .main-svg")
        expect(page.locator("#classes-plot .bars .point")).to_have_count(3)
        names = page.locator("#classes-plot .yaxislayer-above text")
        expect(names).to_have_text(["b", "<i>d</i>", "a"])  # from the bottom
        cells = page.locator("#classes-numbers tbody td, #classes-numbers tbody th")
        rows = cells.all_text_contents()
        assert rows == [
            *("a", "10.0", "15.0", "+5.0"),
            *("<i>d</i>", "20.0", "21.0", "+1.0"),
            *("b", "30.0", "20.0", "−10.0"),
        ]
        points = page.locator("#curves-plot .scatterlayer .point")
        expect(points).to_have_count(2 * len(RATES))
        expect(page.locator("#curves-plot .ytitle")).to_have_text("mIoU (%)")
        expect(page.locator("#curves-note")).to_be_hidden()
        runs = page_runs(page)
        ticks = page.locator("#curves-plot .xaxislayer-above text")
        assert sorted(ticks.all_text_contents()) == sorted(map(str, RATES))
        scores = page.locator("#classes-scores")
        expect(scores).to_have_text("First: mIoU 40.0 ± 0.5. Second: mIoU 30.0 ± 0.5.")
        command = f"vicregl-bench compare {runs[0]['file']} {runs[1]['file']}"
        expect(page.locator("#classes-command")).to_have_text(command)
        page.locator("#clear").click()
        expect(page.locator("#classes-plot")).to_be_hidden()
        expect(page.locator("#curves-plot")).to_be_hidden()
        assert not page.locator("[data-choose='0']").is_checked()
        page.locator("[data-choose='0']").check()
        page.locator("[data-choose='2']").check()
        expect(page.locator("#classes-note")).to_contain_text("metrics (mIoU; top-1)")
        expect(page.locator("#classes-note")).to_contain_text("same weights")
        expect(page.locator("#classes-how")).to_be_hidden()
        mixed = page.locator("#curves-note")
        expect(mixed).to_contain_text("different metrics (mIoU; top-1), protocols (")
        legend = page.locator("#curves-plot .legendtext")
        expect(legend).to_have_text([re.compile("^mIoU: one"), re.compile("^top-1: one")])
        expect(page.locator("#classes-plot")).to_be_hidden()
        expect(page.locator("#classes-note")).to_contain_text("No class has a score in both")


def test_the_trade_off_has_measured_and_printed_points(browser: Browser, small: Path) -> None:
    with Opened(browser, small) as page:
        page.locator("#alpha").scroll_into_view_if_needed()
        page.wait_for_selector("#alpha-scatter .main-svg")
        # two checkpoints; folder_linear is printed nowhere
        expect(page.locator("#alpha-scatter .scatterlayer .point")).to_have_count(2)
        page.select_option("#alpha-x", label="imagenet_linear (printed)")
        # VICRegL, tables 1 and 2: 0.75, 0.9 and VICReg of three backbones
        expect(page.locator("#alpha-scatter .scatterlayer .point")).to_have_count(9)
        numbers = page.locator("#alpha-numbers tbody tr").all_text_contents()
        assert any("): ResNet-50VICRegL" in row and "70.455.9" in row for row in numbers)


def test_the_trade_off_marks_what_is_not_comparable(browser: Browser, tmp_path: Path) -> None:
    entries = [
        made_entry(1, weights="a" * 64, alpha=0.75, deviations=("x: 1 instead of 2", "y: <i>")),
        made_entry(3, weights="a" * 64, alpha=0.75, task="folder_linear"),
        made_entry(2, weights="b" * 64, alpha=1.0),
        made_entry(4, weights="b" * 64, alpha=1.0, task="folder_linear"),
    ]
    for at, entry in enumerate(entries):
        task = entry.record.task.model_copy(update={"profile": "paper"})
        entries[at] = replace(entry, record=entry.record.model_copy(update={"task": task}))
    marked = build_page(page_contents(entries), tmp_path / "marked")
    other = made_entry(5, weights="b" * 64, alpha=1.0, task="voc_det_linear")
    plain = build_page(page_contents([*entries[2:], other]), tmp_path / "plain")
    with Opened(browser, marked) as page:
        page.locator("#alpha").scroll_into_view_if_needed()
        labels = page.locator("#alpha-scatter .scatterlayer .textpoint")
        expect(labels).to_have_text(["α 0.75†", "α 1"])
        starred = page.locator("#alpha-lines .scatterlayer .textpoint", has_text="†")
        expect(starred).to_have_count(1)  # of two scores, the one that deviates
        expect(page.locator("#alpha-note")).to_be_visible()
        hover = page.evaluate("document.getElementById('alpha-scatter').data[0].hovertext")
        assert hover[0].split("<br>")[1:] == [
            "folder_linear: top-1 (%) 50.0 ± 0.5",
            "voc_linear: mIoU (%) 50.0 ± 0.5†",
            "† deviates from voc_linear: x: 1 instead of 2",
            "y: &lt;i&gt;",
        ]
        assert "†" not in hover[1]
        cells = page.locator("#alpha-numbers tbody tr", has_text="measured").locator("td")
        expect(cells).to_have_text(
            ["0.75", "50.0 ± 0.5", "50.0 ± 0.5†", "1", "50.0 ± 0.5", "50.0 ± 0.5"]
        )
        # printed points have no label, a name of their own, and axes that are not of a profile
        page.select_option("#alpha-x", label="imagenet_linear (printed)")
        names = page.locator("#alpha-scatter .legendtext")
        expect(names).to_have_count(3)
        assert all(
            name.startswith("printed in the paper (full protocol): ")
            for name in names.all_text_contents()
        )
        expect(labels).to_have_count(0)
        titles = page.locator("#alpha-scatter .xtitle, #alpha-scatter .ytitle")
        expect(titles).to_have_text(["imagenet_linear: top-1 (%)", "voc_linear: mIoU (%)"])
        heads = page.locator("#alpha-numbers thead").inner_text()
        assert "(ci)" not in heads and "(paper)" not in heads
        # an axis has one metric, and a series one entry in the legend
        own = page.locator("#alpha-lines .ytitle, #alpha-lines .y2title")
        expect(own).to_have_text(["voc_linearmIoU (%)", "imagenet_lineartop-1 (%)"])
        expect(page.locator("#alpha-lines .legendtext")).to_have_count(4)
    with Opened(browser, plain) as page:
        page.locator("#alpha").scroll_into_view_if_needed()
        labels = page.locator("#alpha-scatter .scatterlayer .textpoint")
        # the paper's task is shown first, not the first by name
        chosen = page.locator("#alpha-y option:checked")
        expect(chosen).to_have_text("voc_linear v1 (paper), mIoU")
        expect(labels).to_have_text(["α 1"])
        expect(page.locator("#alpha-note")).to_be_hidden()


@pytest.mark.parametrize("width", [390, 320])
def test_a_phone_scrolls_tables_and_not_the_page(browser: Browser, site: Path, width: int) -> None:
    viewport = {"width": width, "height": 844}
    with Opened(browser, site, viewport=viewport, has_touch=True) as page:
        fits = "() => document.documentElement.scrollWidth <= innerWidth"
        assert page.evaluate(fits)
        for name, shown in (("Method", False), ("Backbone", True), ("Columns", False)):
            expect(heading(page, "leaderboard-table", name)).to_be_visible(visible=shown)
        box = page.locator("#records .dt-layout-table > div")
        assert box.evaluate("one => one.scrollWidth > one.clientWidth")
        place = "one => { const r = one.getBoundingClientRect(); return [r.left, r.top]; }"
        first = page.locator("#records-table td.first").first
        head = heading(page, "records-table", "Checkpoint")
        box.evaluate("one => one.scrollTo(300, 200)")
        edge = box.evaluate(place)
        assert first.evaluate(place)[0] == pytest.approx(edge[0], abs=2)
        assert head.evaluate(place) == pytest.approx(edge, abs=2)
        page.locator("#records-table [data-choose]").nth(0).check()
        page.locator("#records-table [data-choose]").nth(3).check()
        expect(page.locator("#curves-plot .legendtext")).to_have_count(2)  # of the last drawing
        waiting = "Choose two records in the table of records."
        expect(page.locator("#classes-note")).not_to_have_text(waiting)
        assert page.evaluate(fits)
        page.locator("#leaderboard-table td.first button").first.tap()
        expect(page.locator("#record")).to_be_visible()
        assert page.evaluate(fits)
        assert page.locator("#record").evaluate("one => one.scrollWidth <= one.clientWidth")


def contrast(one: str, other: str) -> float:
    """Of two colours `rgb(r, g, b)` (WCAG 2.2, relative luminance)."""

    def luminance(colour: str) -> float:
        parts = [int(part) / 255 for part in colour[4:-1].split(",")]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    bright, dim = sorted((luminance(one), luminance(other)), reverse=True)
    return (bright + 0.05) / (dim + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colours_follow_the_scheme_with_contrast(
    browser: Browser, small: Path, scheme: str
) -> None:
    colours = "one => [getComputedStyle(one).color, getComputedStyle(one).backgroundColor]"
    with Opened(browser, small, color_scheme=scheme) as page:
        text, back = page.locator("body").evaluate(colours)
        assert contrast(text, back) > 7
        assert contrast(back, "rgb(255, 255, 255)" if scheme == "dark" else "rgb(0, 0, 0)") > 15
        for selector in ("nav a", "#leaderboard-table button.open", "#leaderboard-table .missing"):
            colour, _ = page.locator(selector).first.evaluate(colours)
            assert contrast(colour, back) > 4.5
        colour, raised = page.locator("#leaderboard-table thead th").first.evaluate(colours)
        assert contrast(colour, raised) > 7


def test_hostile_names_are_shown_as_they_are(browser: Browser, small: Path) -> None:
    with Opened(browser, small) as page:
        expect(page.locator("h1")).to_have_text(HOSTILE)
        row = page.locator("[data-choose='4']").locator("xpath=ancestor::tr")
        expect(row.locator("td.first")).to_have_text(HOSTILE)
        for table, name in (("leaderboard-table", "Method"), ("records-table", "Method")):
            heading(page, table, name).locator(".dtcc-button_dropdown").click()
            listed = page.locator(".dtcc-dropdown .dtcc-list-buttons button", has_text="script")
            expect(listed).to_have_text(HOSTILE)
            listed.click()
            info = page.locator(f"#{table}_info")
            expect(info).to_contain_text("of 1 entry")
            page.keyboard.press("Escape")
        row.locator("td.first button").click()
        expect(page.locator("#record-heading")).to_have_text(HOSTILE)
        page.keyboard.press("Escape")
        page.locator("[data-choose='4']").check()
        page.wait_for_selector("#curves-plot .main-svg")
        expect(page.locator("#curves-plot .legendtext")).to_contain_text("<script>alert(1)")
        assert page.evaluate("document.querySelectorAll('img').length") == 0


def test_landmarks_headings_and_names(browser: Browser, small: Path) -> None:
    with Opened(browser, small) as page:
        assert page.locator("main").count() == page.locator("h1").count() == 1
        unnamed = """() => [...document.querySelectorAll('button, input, select, a, [role=img]')]
            .filter(one => one.checkVisibility())
            .filter(one => !(one.getAttribute('aria-label') || one.textContent.trim()
                || one.labels?.length)).map(one => one.outerHTML)"""
        assert page.evaluate(unnamed) == []
        assert page.locator("table > caption").count() == page.locator("main table").count()
        for kind in ("nav", "input[type=search]", ".dt-length select"):
            names = page.eval_on_selector_all(
                f"header nav, .dt-container {kind}", "all => all.map(one => one.ariaLabel)"
            )
            assert None not in names and len(set(names)) == len(names) == 3


def test_signs_of_headings_are_large_enough_to_touch(browser: Browser, small: Path) -> None:
    sizes = """all => all.map(one => one.getBoundingClientRect())
        .filter(box => box.width).map(box => Math.min(box.width, box.height))"""
    with Opened(browser, small) as page:
        found = page.eval_on_selector_all("thead .dt-column-order, thead .dtcc-button", sizes)
        assert len(found) > 10 and min(found) >= 24  # px: WCAG 2.2, 2.5.8


def test_the_focus_is_kept_when_chosen_records_are_dropped(browser: Browser, small: Path) -> None:
    with Opened(browser, small) as page:
        expect(page.locator("#classes-records")).to_be_hidden()
        for index in (0, 1):
            page.locator(f"[data-choose='{index}']").check()
        expect(page.locator("#classes-records")).to_be_visible()
        page.locator("#chosen-list button").first.focus()
        page.keyboard.press("Enter")
        expect(page.locator("#clear")).to_be_focused()
        expect(page.locator("#classes-records")).to_be_hidden()
        page.keyboard.press("Enter")
        expect(page.locator("#chosen")).to_be_hidden()
        expect(page.locator("#records-heading")).to_be_focused()
        # a box that is changed in the table keeps it
        page.locator("[data-choose='0']").focus()
        page.keyboard.press("Space")
        expect(page.locator("[data-choose='0']")).to_be_focused()


def test_a_link_to_a_section_ends_there(browser: Browser, site: Path) -> None:
    page = browser.new_page()
    page.goto(f"{site.as_uri()}#records")
    page.wait_for_selector("html[data-ready]")
    top = "document.getElementById('records').getBoundingClientRect().top"
    page.wait_for_function(f"Math.abs({top}) < 20", timeout=20_000)
    page.close()


def test_rows_say_what_was_put_in(browser: Browser, site: Path, many: Contents) -> None:
    runs = many.runs
    draw = random.Random(1)
    with Opened(browser, site) as page:
        show_all(page, "records-table")
        for index in draw.sample(range(COUNT), 5):
            run = runs[index]
            row = page.locator(f"[data-choose='{index}']").locator("xpath=ancestor::tr")
            text = row.inner_text()
            shown = "diverged" if run["score"] is None else f"{run['score']:.1f} ± 0.5"
            assert shown in text and run["checkpoint"] in text and run["task"] in text
            assert ("†" in text) == bool(run["deviations"])


def test_runs_of_the_same_weights_are_told_apart(browser: Browser, tmp_path: Path) -> None:
    views = 'data.views: "five_crops" instead of none'
    first, second = (
        made_entry(1, name="same.pth", weights="a" * 64),
        made_entry(2, name="same.pth", weights="a" * 64, deviations=(views,)),
    )
    paper = second.record.task.model_copy(update={"profile": "paper", "select": "holdout"})
    halved = second.record.environment.model_copy(update={"precision": "bf16"})
    update = {"task": paper, "environment": halved, "key": "c" * 64}
    other = replace(second, record=second.record.model_copy(update=update), path=Path("c.json"))
    path = build_page(page_contents([first, second, other]), tmp_path)
    with Opened(browser, path) as page:
        further = page.locator("#leaderboard-table td.first small")
        expect(further).to_have_text(f"further run: {views}")
        for index in (0, 1):
            page.locator(f"[data-choose='{index}']").check()
        options = page.locator("#first option").all_text_contents()
        assert len(set(options)) == 2 and options[1].endswith(f"voc_linear v1 (ci), {views}")
        assert page.locator("#chosen-list span").all_text_contents() == options
        note = page.locator("#classes-note")
        expect(note).to_have_text(
            "These are of the same weights and differ in their settings: "
            f"deviations of the second alone ({views}). "
        )
        page.locator("[data-choose='0']").uncheck()
        page.locator("[data-choose='2']").check()
        expect(note).to_contain_text(
            "settings: profiles (ci; paper); chosen on (val; holdout); precisions (fp32; bf16). "
        )


def test_scores_are_rounded_as_python_does(browser: Browser, tmp_path: Path) -> None:
    draw = random.Random(2)
    ties = [97.25, 96.25, 0.25, 0.75, 12.125, 12.375, 0.05, 0.15, 2.675, 99.95]
    scores = [*ties, *(draw.randrange(800) / 8 for _ in range(60))]
    by_class: dict[str, float | None] = {f"c{at:02}": one for at, one in enumerate(scores)}
    zeros: dict[str, float | None] = dict.fromkeys(by_class, 0.0)
    entries = [
        made_entry(1, score=97.25, by_class=zeros),
        made_entry(2, score=96.25, by_class=by_class),
    ]
    with Opened(browser, build_page(page_contents(entries), tmp_path)) as page:
        table = page.locator("#leaderboard-table button[data-run]")
        expect(table).to_have_text(["97.2 ± 0.5", "96.2 ± 0.5"])
        for index in (0, 1):
            page.locator(f"[data-choose='{index}']").check()
        page.wait_for_selector("#classes-plot .main-svg")
        rows = page.eval_on_selector_all(
            "#classes-numbers tbody tr",
            "rows => rows.map(r => [...r.cells].map(c => c.textContent))",
        )
        assert {row[0]: row[2] for row in rows} == {
            name: number_text(one, 1) for name, one in by_class.items() if one is not None
        }
        page.locator("#records-table [data-run='1']").click()
        bars = page.locator("#record-body section", has_text="by class")
        cells = bars.last.locator("tbody td.number").all_text_contents()
        assert cells == [number_text(one, 2) for one in sorted(scores, reverse=True)]


def test_the_mean_rank_is_over_the_columns_that_are_shown(browser: Browser, tmp_path: Path) -> None:
    entries = [
        made_entry(1, name="a", weights="a" * 64, score=40),
        made_entry(2, name="b", weights="b" * 64, score=60),
        made_entry(3, name="c", weights="c" * 64, score=50),
        made_entry(4, name="a", weights="a" * 64, task="folder_linear", score=90),
        made_entry(5, name="b", weights="b" * 64, task="folder_linear", score=80),
    ]
    with Opened(browser, build_page(page_contents(entries), tmp_path)) as page:
        rows = "rows => rows.map(r => [...r.cells].map(c => c.innerText).join(' '))"

        def ranks() -> dict[str, list[str]]:
            shown = page.eval_on_selector_all("#leaderboard-table tbody tr", rows)
            return {row.split()[0]: row.split()[3:5] for row in shown}

        assert ranks() == {"b": ["1.50", "2"], "a": ["2.00", "2"], "c": ["2.00", "1"]}
        page.select_option("#only-task", "folder_linear")
        assert list(ranks().items()) == [("a", ["1.00", "1"]), ("b", ["2.00", "1"])]
        page.select_option("#only-task", "voc_linear")
        assert list(ranks()) == ["b", "c", "a"]
        page.select_option("#only-task", "")
        assert ranks()["a"] == ["2.00", "2"]


def test_filters_are_called_by_their_columns_and_names_wrap(
    browser: Browser, tmp_path: Path
) -> None:
    name = "supervised ImageNet, ResNet-50 v1"
    path = build_page(page_contents([made_entry(1, name=name)]), tmp_path)
    viewport = {"width": 390, "height": 844}
    with Opened(browser, path, viewport=viewport) as page:
        for table in ("leaderboard-table", "records-table"):
            buttons = page.locator(f"#{table} thead .dtcc-button_dropdown")
            called = [one.get_attribute("aria-label") or "" for one in buttons.all()]
            assert len(set(called)) == len(called) > 2
            assert all(one.startswith("Filter by ") for one in called)
        button = page.locator("#leaderboard-table td.first button")
        assert button.evaluate(
            "one => one.scrollWidth <= one.clientWidth && one.scrollHeight <= one.clientHeight + 1"
        )
