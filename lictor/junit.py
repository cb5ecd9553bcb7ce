"""The results of a site's tests as JUnit XML, which CI servers read."""

import re
from xml.etree import ElementTree as ET

from bundles.build.testing import TestResult, TestRun

_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""The characters that XML 1.0 cannot hold, not even escaped (2.2)."""


def junit(ran: TestRun) -> str:
    """One `testsuite` with a `testcase` for each test."""
    suite = ET.Element(
        "testsuite",
        name="site",
        tests=str(len(ran.results)),
        failures=str(sum(one.outcome == "failed" for one in ran.results)),
        errors=str(sum(one.outcome == "stopped" for one in ran.results)),
        skipped=str(sum(one.outcome == "skipped" for one in ran.results)),
        time=f"{sum(one.seconds for one in ran.results):.3f}",
    )
    for one in ran.results:
        _add(suite, one)
    ET.indent(suite)
    return ET.tostring(suite, encoding="unicode", xml_declaration=True)


def _add(suite: ET.Element, one: TestResult) -> None:
    package, _, name = one.name.rpartition(".")
    path, _, row = one.location.rpartition(":")
    case = ET.SubElement(
        suite, "testcase",
        name=name, classname=package, file=_clean(path), line=row, time=f"{one.seconds:.3f}",
    )  # fmt: skip
    if one.outcome in {"failed", "stopped"}:
        kind = "failure" if one.outcome == "failed" else "error"
        said = f"{one.location}: {one.detail}" if one.detail else one.location
        ET.SubElement(case, kind, message=_clean(said))
    elif one.outcome == "skipped":
        ET.SubElement(case, "skipped")
    if one.output:
        ET.SubElement(case, "system-out").text = _clean(one.output)


def _clean(text: str) -> str:
    return _NOT_XML.sub("\N{REPLACEMENT CHARACTER}", text)
