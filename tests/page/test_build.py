import base64
import json
import re
import zlib
from pathlib import Path

import pytest

from tests.page.made import made_entry
from vicregl_bench.cli.main import _guarded
from vicregl_bench.errors import ConfigError
from vicregl_bench.page import build, build_page, page_contents
from vicregl_bench.records import write_record

HOSTILE = "</script><script>alert(1)</script>"


def read_inlined(page: str, name: str) -> str:
    found = re.search(rf'<script type="[a-z/]+" id="{name}">(.*?)</script>', page, re.DOTALL)
    assert found is not None
    return found.group(1)


def inflate(text: str) -> str:
    return zlib.decompress(base64.b64decode(text)).decode()


def test_the_file_holds_everything_and_links_to_nothing(tmp_path: Path) -> None:
    path = build_page(page_contents([made_entry(1)]), tmp_path / "site")
    assert path == tmp_path / "site" / "index.html"
    assert [one.name for one in path.parent.iterdir()] == ["index.html"]
    page = path.read_text()
    targets = re.findall(r'<(?:link|script|img|a|iframe)[^>]*(?:href|src)="([^"]*)"', page)
    assert targets and all(target.startswith(("#", "data:")) for target in targets)
    assert "@import" not in page
    assert "plotly.js v" in inflate(read_inlined(page, "plotly"))
    assert "as default" in inflate(read_inlined(page, "datatables"))


def test_records_come_back_from_the_file_as_they_were(tmp_path: Path) -> None:
    entry = made_entry(1, name=HOSTILE, score=12.3456)
    page = build_page(page_contents([entry]), tmp_path).read_text()
    details = json.loads(inflate(json.loads(read_inlined(page, "details"))[0]))
    assert details["record"] == entry.record.model_dump(mode="json")
    summary = json.loads(read_inlined(page, "summary"))
    assert summary["runs"][0]["checkpoint"] == HOSTILE
    assert summary["runs"][0]["score"] == 12.3456


def test_texts_are_never_markup(tmp_path: Path) -> None:
    entry = made_entry(1, name=HOSTILE, method=HOSTILE)
    plain = build_page(page_contents([made_entry(1)]), tmp_path / "a").read_text()
    page = build_page(page_contents([entry]), tmp_path / "b", title=HOSTILE).read_text()
    assert page.count("<script") == plain.count("<script")
    assert "alert(1)</script>" not in page
    assert "&lt;script&gt;alert(1)" in page  # the title


def test_code_that_would_end_its_element_is_refused() -> None:
    with pytest.raises(ValueError, match="</script"):
        build._inlined("script", "a = '</SCRIPT>'")


def test_another_index_is_not_overwritten_and_our_own_is(tmp_path: Path) -> None:
    contents = page_contents([made_entry(1)])
    (tmp_path / "index.html").write_text("<html>")
    with pytest.raises(ConfigError, match="not made by"):
        build_page(contents, tmp_path)
    assert (tmp_path / "index.html").read_text() == "<html>"
    with pytest.raises(ConfigError, match="is a file"):
        build_page(contents, tmp_path / "index.html")
    first = build_page(contents, tmp_path / "site", title="first")
    build_page(contents, tmp_path / "site", title="second")
    assert "<title>second</title>" in first.read_text()


def test_the_command_prints_the_file_and_says_what_is_wrong(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs, out = tmp_path / "runs", tmp_path / "site"
    write_record(runs, made_entry(1).record)
    (runs / "half.json").write_text("{")
    assert _guarded(["page", "--records", str(runs), "--out", str(out)]) == 0
    captured = capsys.readouterr()
    assert captured.out.strip() == str(out / "index.html")
    assert "half.json" in captured.err.replace("\n", "")
    assert _guarded(["page", "--records", str(tmp_path / "none"), "--out", str(out)]) == 2
    assert "makes one" in capsys.readouterr().err.replace("\n", "")
