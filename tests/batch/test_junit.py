"""JUnit XML, read back by junitparser and by Python's own parser."""

import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
from junitparser import Error, Failure, JUnitXml
from junitparser.xunit2 import TestSuite as Suite

from tests.batch.test_baseline import entry
from tests.batch.test_guard import NARROW
from vicregl_bench.batch.guard import Measured, Report, judge
from vicregl_bench.batch.junit import write_junit
from vicregl_bench.errors import RecordError

ODD = 'a<b> & "c" \x1b[31mé'


def report() -> Report:
    accepted = entry(**NARROW)
    low = entry(**NARROW, score=40.0)

    def row(name: str, **changes: object) -> Measured:
        return Measured(name, "voc_linear", **({"entry": low, "seconds": 1.5} | changes))  # type: ignore[arg-type]

    return Report(
        (
            judge(row("ok", entry=accepted), accepted),
            judge(row("fell"), accepted),
            judge(row("new"), None),
            judge(row("other"), accepted.model_copy(update={"version": 2})),
            judge(row("lost", entry=None, error=ODD), accepted),
            judge(row(ODD, entry=None, error="diverged", diverged=True), accepted),
        ),
        (),
    )


def test_ci_reads_one_case_a_row(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "junit.xml"
    write_junit(path, report(), "suite")
    (cases,) = [Suite.fromelem(one) for one in JUnitXml.fromfile(str(path))]
    assert (cases.tests, cases.failures, cases.errors, cases.time) == (6, 2, 3, 9.0)
    found = {case.name: case for case in cases}
    assert list(found) == ["ok", "fell", "new", "other", "lost", 'a<b> & "c" ?[31mé']
    assert {case.classname for case in cases} == {"suite.voc_linear"}
    assert found["ok"].result == []
    kinds = {name: type(case.result[0]) for name, case in found.items() if case.result}
    assert kinds.pop("fell") is kinds.pop("new") is Failure
    assert set(kinds.values()) == {Error} and len(kinds) == 3
    assert found["fell"].result[0].message.startswith("miou fell by 10.00, from 50.00 to 40.00")
    # nothing else changed: the text says so too
    assert "the weights are the baseline's" in found["fell"].result[0].text
    assert found["other"].result[0].type == "not comparable"
    assert found["lost"].result[0].message == 'a<b> & "c" ?[31mé'
    values = {one.name: one.value for one in found["fell"].properties()}
    assert values == {
        "status": "fell",
        "metric": "miou",
        "score": "40.0000",
        "baseline": "50.0000",
        "tolerance": "0.2000",
        "tolerance_source": "least",
    }
    assert [one.name for one in found["new"].properties()] == ["status", "metric", "score"]


def test_any_parser_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "junit.xml"
    write_junit(path, report(), ODD)
    root = ElementTree.parse(path).getroot()
    assert root.tag == "testsuites" and root.get("tests") == "6"
    assert root[0].get("name") == 'a<b> & "c" ?[31mé'
    # the order of JUnit's schema: properties before what became of the case
    assert [part.tag for part in root[0][1]] == ["properties", "failure"]


def test_what_cannot_be_written_is_one_error(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="cannot write"):
        write_junit(tmp_path, report(), "suite")
