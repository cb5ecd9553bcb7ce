"""A site's own tests, run by `opa test` on the bytes that would be signed."""

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from bundles.build import syntax
from bundles.build.policies import product_sources
from bundles.build.site_folder import SiteFolder, SourceFile, read_site
from bundles.build.staging import Stage, staged
from bundles.build.syntax import Module
from bundles.exceptions import NoTestsError, OPAFailedError
from bundles.opa.binary import OPA
from lictor_common.text import printable

TEST_SECONDS = 10.0
"""How long one test may take by default; a rule that never ends is stopped."""

Outcome = Literal["passed", "failed", "skipped", "stopped"]


@dataclass(frozen=True, slots=True)
class TestResult:
    """One test that ran.

    Attributes:
        name: its package and name, such as `site_test.test_a_team_may_write`.
        location: `file:row`.
        outcome: `stopped` is a test that ended in an error or took too long.
        detail: why it was stopped, or which cases failed; printable.
        output: what it printed; printable.
        seconds: how long it took.
    """

    name: str
    location: str
    outcome: Outcome
    detail: str
    output: str
    seconds: float

    @property
    def is_good(self) -> bool:
        """Whether it lets a build go on."""
        return self.outcome in {"passed", "skipped"}


@dataclass(frozen=True, slots=True)
class Coverage:
    """How much of a site's rules the tests reach.

    Attributes:
        percent: of the lines of the rules.
        missing: rows that no test reaches, by file.
    """

    percent: float
    missing: Mapping[str, tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class TestRun:
    """The outcome of a site's tests.

    Attributes:
        site: the files, as they were read.
        results: each test, in the order of the files.
        repeated: tests whose name stands more than once, each as `file:row: name`. OPA passes all
            of one name when one of them holds.
        coverage: None where it was not wanted, or a test did not pass.
    """

    site: SiteFolder
    results: tuple[TestResult, ...]
    repeated: tuple[str, ...]
    coverage: Coverage | None


def run_tests(
    opa: OPA,
    folder: Path,
    *,
    name: str = "",
    coverage: bool = False,
    seconds: float = TEST_SECONDS,
) -> TestRun:
    """Run every test in a site's folder, in whatever package.

    Args:
        opa: runs them.
        folder: the site's folder.
        name: a regular expression; only tests whose full name it matches run.
        coverage: whether to find out which lines the tests reach.
        seconds: the time limit of one test.

    Raises:
        PolicyRefusedError: the folder cannot be read, or a file is not Rego.
        NoTestsError: there is nothing to run.
        OPAFailedError: OPA cannot compile the rules and their tests, or does not end.
    """
    site = read_site(folder)
    files = [*site.rules, *site.tests]
    repeated = _repeated(syntax.parse(opa, files))
    with staged(opa, product_sources("lictor"), files) as stage:
        results = _results(_run(opa, stage, seconds=seconds, name=name), stage)
        if not results:
            which = f"with a name that matches {name}" if name else "whose name begins with test_"
            raise NoTestsError(f"{printable(str(folder))}: no test ran; there is no rule {which}")
        reached = None
        if coverage and all(result.is_good for result in results):
            reached = _coverage(
                _run(opa, stage, "--coverage", seconds=seconds, name=name), stage, site.rules
            )
    return TestRun(site, tuple(results), repeated, reached)


def _repeated(modules: Sequence[Module]) -> tuple[str, ...]:
    tests = [rule for module in modules for rule in module.rules if rule.is_test]
    seen: set[tuple[str | None, ...]] = set()
    found = []
    for rule in tests:
        if rule.path in seen:
            found.append(f"{rule.module.locate(rule.head)}: {rule.name}")
        seen.add(rule.path)
    return tuple(found)


def _run(opa: OPA, stage: Stage, *flags: str, seconds: float, name: str) -> Any:
    arguments = [
        "test", "--format=json", f"--timeout={seconds:g}s", "--capabilities=capabilities.json",
        *([f"--run={name}"] if name else []), *flags, *stage.folders,
    ]  # fmt: skip
    # OPA prints the results of failed tests and exits with an error all the same.
    said = opa.attempt(*arguments, cwd=stage.path, timeout=max(60.0, 60 * seconds))
    try:
        return json.loads(said.stdout)  # `[]` where there is no test
    except ValueError:
        error = OPAFailedError((said.stderr + said.stdout).decode(errors="replace").strip())
        syntax.refuse(syntax.findings_of(error, stage.files))
        raise error from None


def _results(tests: Sequence[Mapping[str, Any]], stage: Stage) -> list[TestResult]:
    if isinstance(tests, dict):  # errors of the compiler
        syntax.refuse(syntax.findings_of(OPAFailedError(json.dumps(tests)), stage.files))
    found = [_result(test, stage) for test in tests]
    return sorted(found, key=lambda one: (one.location.rpartition(":")[0], _row(one.location)))


def _row(location: str) -> int:
    return int(location.rpartition(":")[2])


def _result(test: Mapping[str, Any], stage: Stage) -> TestResult:
    location = test["location"]
    outcome: Outcome = "passed"
    detail = ""
    if test.get("skip"):
        outcome = "skipped"
    elif error := test.get("error"):
        outcome, detail = "stopped", printable(str(error.get("message", "")))
    elif test.get("fail"):
        outcome = "failed"
        cases = test.get("sub_results") or {}
        detail = ", ".join(printable(name) for name, case in cases.items() if case.get("fail"))
    output = base64.b64decode(test.get("output", "")).decode(errors="replace")
    return TestResult(
        name=f"{test['package'].removeprefix('data.')}.{test['name']}",
        location=f"{stage.files[location['file']].path}:{location['row']}",
        outcome=outcome,
        detail=detail,
        output="\n".join(map(printable, output.splitlines())),
        seconds=test.get("duration", 0) / 1e9,
    )


def _coverage(report: Mapping[str, Any], stage: Stage, rules: Sequence[SourceFile]) -> Coverage:
    covered, missing = 0, {}
    own = {id(file) for file in rules}
    for name, found in report.get("files", {}).items():
        file = stage.files.get(name)
        if file is None or id(file) not in own:
            continue
        covered += len(_rows(found.get("covered")))
        if rows := _rows(found.get("not_covered")):
            missing[file.path] = rows
    total = covered + sum(map(len, missing.values()))
    return Coverage(100 * covered / total if total else 100.0, missing)


def _rows(ranges: Sequence[Mapping[str, Any]] | None) -> tuple[int, ...]:
    return tuple(
        row for one in ranges or () for row in range(one["start"]["row"], one["end"]["row"] + 1)
    )
