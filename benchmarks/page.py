"""The page of a thousand made-up records in headless chromium, beside itables' own page of them.

Printed are the median times from the start of navigation to the first table (ours: the
leaderboard) and to the table of records, both drawn, and from the click on a heading to the drawn
order, with the size of each file. The peer is
`itables.to_html_datatable(frame, connected=False)` with the same columns of the same records, 50
rows a page as ours: a table alone, without records, plots or filters. Both sides run in turns, each
time in a new browser context. Needs playwright and Debian's chromium.

    python benchmarks/page.py
    python benchmarks/page.py --records 200 --rounds 3
"""

import argparse
import shutil
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

import pandas as pd

sys.path.insert(0, str(Path(__file__).parents[1]))
from tests.page.made import made_entries
from tests.page.test_browser import ARGUMENTS
from vicregl_bench.page import Contents, build_page, page_contents

# selectors of the first table and of that of records
SIDES = {
    "ours": ("#leaderboard-table", "#records-table"),
    "itables": ("table.dataTable", "table.dataTable"),
}
LOAD = """selectors => Promise.all(selectors.map(selector => new Promise(done => {
    const look = () => document.querySelectorAll(`${selector} tbody tr`).length > 1
        ? setTimeout(() => done(performance.now())) : requestAnimationFrame(look);
    look();
})))"""
SORT = """selector => new Promise(done => {
    const heading = [...document.querySelectorAll(`${selector} thead th`)]
        .find(one => one.textContent.trim().toLowerCase().startsWith('score'));
    const first = () => document.querySelector(`${selector} tbody tr`);
    const before = first(), begin = performance.now();
    const look = () => first() !== before
        ? requestAnimationFrame(() => done(performance.now() - begin)) : setTimeout(look, 1);
    heading.querySelector('.dt-column-order').click();
    look();
})"""


def peer_page(contents: Contents, path: Path) -> None:
    """The same table by itables alone."""
    from itables import options, to_html_datatable
    from itables.javascript import generate_init_offline_itables_html

    names = ("checkpoint", "task", "version", "profile", "metric", "score", "low", "method")
    more = ("backbone", "data", "lr", "seeds", "device", "created")
    frame = pd.DataFrame(contents.runs)[[*names, *more]]
    table = to_html_datatable(frame, connected=False, maxBytes=0, pageLength=50, classes="display")
    library = generate_init_offline_itables_html(options.dt_bundle)
    path.write_text(f"<!doctype html><meta charset=utf-8>{library}{table}")


def measure(browser: Any, path: Path, selectors: tuple[str, str]) -> tuple[float, ...]:
    """First table, table of records and sort in milliseconds."""
    context = browser.new_context()
    page = context.new_page()
    page.goto(path.as_uri(), wait_until="commit")
    first, load = page.evaluate(LOAD, list(selectors))
    if selectors[0] == "#leaderboard-table":
        page.wait_for_selector("html[data-ready]")
    sort = page.evaluate(SORT, selectors[1])
    context.close()
    return float(first), float(load), float(sort)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--records", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    chromium = shutil.which("chromium")
    if chromium is None:
        sys.exit("no chromium in the path")
    from playwright.sync_api import sync_playwright

    contents = page_contents(list(made_entries(arguments.records)))
    times: dict[str, list[tuple[float, ...]]] = {name: [] for name in SIDES}
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        paths = {"ours": build_page(contents, Path(folder)), "itables": Path(folder) / "peer.html"}
        peer_page(contents, paths["itables"])
        browser = playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS)
        for _ in range(arguments.rounds + 1):
            for name, selectors in SIDES.items():
                times[name].append(measure(browser, paths[name], selectors))
        browser.close()
        sizes = {name: path.stat().st_size / 2**20 for name, path in paths.items()}
    medians = {}
    for name, measured in times.items():
        kept = measured[1:]  # the first warms the file's cache up
        medians[name] = [statistics.median(values) for values in zip(*kept, strict=True)]
        first, load, sort = medians[name]
        spent = f"first table {first:6.0f} ms  records {load:6.0f} ms  sort {sort:6.0f} ms"
        print(f"{name:8} {spent}  {sizes[name]:5.1f} MiB")
    ratios = [a / b for a, b in zip(medians["ours"], medians["itables"], strict=True)]
    words = ("first table", "records", "sort")
    pairs = zip(words, ratios, strict=True)
    print("ours / itables:", ", ".join(f"{word} {ratio:.2f}" for word, ratio in pairs))


if __name__ == "__main__":
    main()
