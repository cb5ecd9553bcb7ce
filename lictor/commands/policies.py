"""`lictor policies`: make, check, build, sign and test the Rego."""

import re
import shlex
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import App, Parameter

from bundles.build.report import RuleReport
from bundles.build.site_folder import SiteFolder
from bundles.build.testing import TEST_SECONDS, TestRun, run_tests
from bundles.opa.binary import find_opa
from bundles.publish.store import Store
from lictor.console import Common, note, show_table
from lictor.exceptions import InvalidArgumentError
from lictor.junit import junit
from lictor.new_site import make_site_repository
from lictor.settings import require
from lictor.state_dir import build_policies
from lictor_common.text import printable_json

policies = App(name="policies", help="The Rego: make, check, build, sign, test.")


@dataclass(frozen=True, kw_only=True)
class _TestCommon(Common):
    """The flags of a command that can report to CI."""

    format: Annotated[
        Literal["text", "json", "junit"],
        Parameter(help="`json` prints one object, `junit` XML for CI."),
    ] = "text"  # type: ignore[assignment]


policies.command("lictor.commands.policies_mutate:mutate", name="mutate")
policies.command("lictor.commands.policies_lint:lint_policies", name="lint")

_DEFAULT = Common()
_TEST_DEFAULT = _TestCommon()


@policies.command(name="build")
def build(
    *,
    sign: Annotated[bool, Parameter(negative="")] = False,
    output: Path | None = None,
    common: Common = _DEFAULT,
) -> None:
    """Check the product's and the site's rules, and build their bundles.

    Prints what each rule of the site does, and which files are not part of it.

    Args:
        sign: sign them and hand them to `lictor serve`; without it they are only checked.
        output: the folder to write them to, in place of the one that `lictor serve` looks in.
        common: the flags that every command has.
    """
    if sign:
        require(common.settings)
    built = build_policies(common.settings, find_opa(), sign=sign)
    if sign:
        store = Store(output or common.settings.bundles)
        for bundle in built.bundles:
            store.save(bundle)
    rows: list[dict[str, Any]] = [
        {"bundle": b.name, "revision": b.revision, "signed": sign} for b in built.bundles
    ]
    rules = [_rule_json(rule) for rule in built.rules.rules]
    if common.format == "json":
        rows[-1] |= {
            "reads": asdict(built.rules.reads),
            "rules": rules,
            "left_out": [asdict(one) for one in built.rules.folder.left_out],
            "unused": list(built.rules.unused),
        }
        common.show(rows)
        return
    show_table(rows)
    if rules:
        print()
        show_table([rule | {"tests": len(rule["tests"])} for rule in rules])
    _note_left_out(built.rules.folder)
    for one in built.rules.unused:
        note(f"{one} is a function that nothing in force calls")


@policies.command(name="test")
def run_site_tests(
    *,
    run: str = "",
    verbose: Annotated[bool, Parameter(name=["--verbose", "-v"], negative="")] = False,
    coverage: Annotated[bool, Parameter(negative="")] = False,
    threshold: float | None = None,
    timeout: float = TEST_SECONDS,
    common: _TestCommon = _TEST_DEFAULT,
) -> int:
    """Run the site's own Rego tests, with `opa test`.

    Exits with 1 when a test does not pass, when there is none, or when too few lines are covered.

    Args:
        run: run only tests whose full name this regular expression matches.
        verbose: list every test, and what it printed.
        coverage: print how many lines of the rules the tests reach, and which they do not.
        threshold: the percentage of lines that the tests must reach; implies `--coverage`.
        timeout: seconds that one test may take.
        common: the flags that every command has.
    """
    _check_options(run, threshold, timeout)
    ran = run_tests(
        find_opa(),
        common.settings.site,
        name=run,
        coverage=coverage or threshold is not None,
        seconds=timeout,
    )
    match common.format:
        case "json":
            print(printable_json(_as_json(ran)))
        case "junit":
            print(junit(ran))
        case _:
            _show(ran, verbose=verbose)
            _note_left_out(ran.site)
    for one in ran.repeated:
        note(f"{one} stands more than once; OPA passes all of one name when one of them holds")
    good = all(result.is_good for result in ran.results) and not ran.repeated
    if ran.coverage and threshold is not None and ran.coverage.percent < threshold:
        note(f"coverage is {ran.coverage.percent:.1f} %, less than {threshold:g} %")
        return 1
    return int(not good)


@policies.command(name="new")
def new(folder: Path, /, *, common: Common = _DEFAULT) -> None:
    """Make a repository for a site's rules: an example, its tests, stubs, hooks and CI.

    Args:
        folder: where to make it; it must not exist, or be empty.
        common: the flags that every command has.
    """
    written = make_site_repository(folder)
    site = folder / "site"
    common.show(
        {"files": written, "next": f"lictor policies build --site {shlex.quote(str(site))}"}
    )


def _check_options(run: str, threshold: float | None, timeout: float) -> None:
    try:
        re.compile(run)
    except re.error as error:
        raise InvalidArgumentError(f"--run: not a regular expression: {error}") from None
    if threshold is not None and not 0 <= threshold <= 100:  # noqa: PLR2004 - a percentage
        raise InvalidArgumentError("--threshold: a percentage from 0 to 100")
    if not 0 < timeout <= 3600:  # noqa: PLR2004 - an hour
        raise InvalidArgumentError("--timeout: seconds, more than 0 and at most 3600")


def _show(ran: TestRun, *, verbose: bool) -> None:
    for one in ran.results:
        if verbose or not one.is_good:
            detail = f": {one.detail}" if one.detail else ""
            print(f"{one.outcome.upper()} {one.name} ({one.location}){detail}")
        if one.output and (verbose or not one.is_good):
            print("\n".join(f"    {line}" for line in one.output.splitlines()))
    total = len(ran.results)
    for outcome, word in (("passed", "PASS"), ("failed", "FAIL"), ("skipped", "SKIPPED"),
                          ("stopped", "ERROR")):  # fmt: skip
        count = sum(one.outcome == outcome for one in ran.results)
        if count:
            print(f"{word}: {count}/{total}")
    if ran.coverage:
        print(f"coverage: {ran.coverage.percent:.1f} %")
        for path, rows in sorted(ran.coverage.missing.items()):
            print(f"  {path}: no test reaches line {', '.join(map(str, rows))}")


def _rule_json(rule: RuleReport) -> dict[str, Any]:
    found = asdict(rule)
    del found["concern"]  # for the bundle's manifest, in terms of its own
    return found


def _as_json(ran: TestRun) -> dict[str, Any]:
    covered = ran.coverage
    return {
        "tests": [asdict(one) for one in ran.results],
        "coverage": covered and {"percent": covered.percent, "missing": dict(covered.missing)},
        "left_out": [asdict(one) for one in ran.site.left_out],
    }


def _note_left_out(site: SiteFolder) -> None:
    for one in site.left_out:
        note(f"left out: {one.path}: {one.reason}")
