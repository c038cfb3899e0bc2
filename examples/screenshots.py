"""The README's pictures: table 1 and the page of a folder of records, as a browser shows them.

    python examples/screenshots.py results/small_data docs/pictures

needs a chromium on the path and the `dev` extra's playwright; nothing is downloaded.
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import sync_playwright

STYLE = """
body { font: 15px/1.4 sans-serif; margin: 16px; width: max-content; max-width: 1180px }
table { border-collapse: collapse }
th, td { padding: 3px 10px; text-align: left; white-space: nowrap }
caption { font-weight: bold; text-align: left; padding-bottom: 8px }
thead th { border-bottom: 1px solid #999 } tbody th[colspan] { padding-top: 10px }
"""


def table(records: Path) -> str:
    """Table 1 as HTML, printed and measured."""
    command = [sys.executable, "-m", "vicregl_bench", "table", "1", "--both", "--format", "html"]
    done = subprocess.run(
        [*command, "--records", str(records)], check=True, capture_output=True, text=True
    )
    return f"<!doctype html><meta charset=utf-8><style>{STYLE}</style>{done.stdout}"


def page(records: Path, out: Path) -> Path:
    """The page's file."""
    command = [sys.executable, "-m", "vicregl_bench", "page", "--records", str(records)]
    subprocess.run([*command, "--out", str(out)], check=True)
    return out / "index.html"


def main(records: Path, pictures: Path) -> None:
    """Write table1.png and page.png."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        sys.exit("no chromium on the path")
    pictures.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        tab = browser.new_page(viewport={"width": 1500, "height": 760})
        html = Path(folder) / "table.html"
        html.write_text(table(records))
        tab.goto(html.as_uri())
        tab.screenshot(path=pictures / "table1.png", full_page=True)
        tab.goto(page(records, Path(folder) / "site").as_uri())
        tab.wait_for_selector("table tbody tr")
        tab.screenshot(path=pictures / "page.png")
        browser.close()


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(Path(sys.argv[1]), Path(sys.argv[2]))
