"""A report as JUnit XML, which CI systems show: one test case a row of the suite."""

import io
import re
from pathlib import Path

from junitparser import Error, Failure, JUnitXml
from junitparser.xunit2 import TestCase, TestSuite

from vicregl_bench.atomic import write_atomic
from vicregl_bench.batch.guard import Report, Status, Verdict
from vicregl_bench.errors import RecordError

_FAILURES = (Status.fell, Status.new)  # what else is not well is an error: nothing was compared
# what XML 1.0 (section 2.2) cannot hold, whatever its encoding
_NO_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def write_junit(path: Path, report: Report, suite: str) -> None:
    """Write a report as JUnit XML, whole or not at all.

    A fallen score and a row without a baseline are failures; a run without a score, and one that
    cannot be compared, are errors. Score, baseline and tolerance are properties of the test case.

    Args:
        path: file to write.
        report: judged rows.
        suite: name of the suite.

    Raises:
        RecordError: no space, no permission, or another error of the file system.
    """
    cases = TestSuite(_clean(suite))  # type: ignore[no-untyped-call]
    for verdict in report.verdicts:
        cases.add_testcase(_case(verdict, suite))
    xml = JUnitXml(_clean(suite))
    xml.add_testsuite(cases)
    xml.update_statistics()  # type: ignore[no-untyped-call]
    content = io.BytesIO()
    xml.write(content, pretty=True)
    try:
        write_atomic(path, content.getvalue())
    except OSError as error:
        raise RecordError(f"cannot write {path}: {error.strerror}") from error


def _case(verdict: Verdict, suite: str) -> TestCase:
    measured = verdict.measured
    classname = f"{suite}.{measured.task}"
    case = TestCase(_clean(measured.name), classname=_clean(classname), time=measured.seconds)
    for name, value in _properties(verdict).items():
        case.add_property(name, _clean(value))
    if not verdict.well:
        kind = Failure if verdict.status in _FAILURES else Error
        result = kind(_clean(verdict.reason), type_=verdict.status.value)
        result.text = _clean("\n".join([verdict.reason, *verdict.notes]))
        case.result = [result]
    elif verdict.notes:
        case.system_out = _clean("\n".join(verdict.notes))
    return case


def _properties(verdict: Verdict) -> dict[str, str]:
    entry, baseline, allowed = verdict.measured.entry, verdict.baseline, verdict.tolerance
    found = {"status": verdict.status.value}
    if entry is not None:
        found |= {"metric": entry.metric, "score": f"{entry.score:.4f}"}
    if baseline is not None:
        found["baseline"] = f"{baseline.score:.4f}"
    if allowed is not None:
        found |= {"tolerance": f"{allowed.points:.4f}", "tolerance_source": allowed.source}
    return found


def _clean(text: str) -> str:
    return _NO_XML.sub("?", text)
