"""Names of users in what is printed: as they are, whatever rich would make of them."""

import pytest

from tests.made_record import make_record
from vicregl_bench.cli.output import print_record, print_rows
from vicregl_bench.cli.reporter import StderrReporter

Captured = pytest.CaptureFixture[str]
# markup, a closing tag without an opening one, and an emoji's code
ODD = "run[bold]/a[1][/x]:b:.pth"


def test_a_record_shows_names_as_they_are(capsys: Captured) -> None:
    record = make_record(
        name=ODD,
        task={"title": "VOC [red]"},
        checkpoint={"notes": (ODD,), "method": "[m]"},
        deviations=[f"data: {ODD}"],
    )
    print_record(record)
    shown = capsys.readouterr().out.splitlines()
    assert shown[0] == "VOC [red]  voc_linear v1, profile ci"
    assert shown[1] == f"{ODD}: [m], resnet18, weights w"
    assert shown[-2:] == [f"deviation: data: {ODD}", f"note: {ODD}"]
    best = next(line for line in shown if line.startswith("best"))
    assert best.startswith("best mIoU 50.00 ± 1.00 at lr 0.1 (3 seeds); 95 % over")


def test_an_interrupted_record_says_how_far_it_came(capsys: Captured) -> None:
    print_record(make_record(status="interrupted", results=[], best=None))
    assert "interrupted after 60 of 60" in capsys.readouterr().out.splitlines()


def test_rows_show_names_as_they_are(capsys: Captured) -> None:
    print_rows(["name"], [[ODD]])
    assert ODD in capsys.readouterr().out


@pytest.mark.parametrize("terminal", [False, True])
def test_progress_and_warnings_show_names_as_they_are(
    terminal: bool, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("TTY_COMPATIBLE", "1" if terminal else "0")
    monkeypatch.setenv("TERM", "dumb")  # no colours
    with StderrReporter() as reporter:
        assert reporter.console.is_terminal == terminal
        reporter.stage(f"training {ODD}", 2)(1)
        reporter.warn(f"{ODD}: odd")
        reporter.console.print(ODD)
    shown = capsys.readouterr().err
    assert f"training {ODD}" in shown
    assert f"warning: {ODD}: odd" in shown
    assert shown.count(ODD) >= 3
