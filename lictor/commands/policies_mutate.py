"""`lictor policies mutate`: find the parts of the rules that no test depends on."""

import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from rich.console import Console
from rich.progress import track

from bundles.build.equivalents import DEFAULT_PATH, Matches, load_equivalents, match_equivalents
from bundles.build.mutants import Mutant, make_mutants
from bundles.build.mutation import Baseline, MutantOutcome, MutationRun
from bundles.build.rule_sources import RuleSources
from bundles.build.source_text import SourceText
from bundles.opa.binary import OPA, find_opa
from lictor.commands.mutation_report import show_report
from lictor.console import Common, note
from lictor.exceptions import InvalidArgumentError

_DEFAULT = Common()
_ALL = 100


def mutate(
    *,
    threshold: float = _ALL,
    file: Annotated[list[str] | None, Parameter(negative="")] = None,
    equivalent: Path | None = None,
    jobs: int | None = None,
    timeout: float | None = None,
    product: Annotated[bool, Parameter(negative="")] = False,
    common: Common = _DEFAULT,
) -> int:
    """Change the site's rules in many small ways, and see whether the tests notice.

    Prints each change that no test notices. Exits with 1 when the share of the changes that are
    noticed is below the threshold.

    Args:
        threshold: the least share of mutants that the tests must kill, in percent.
        file: make mutants of this file alone, named from the folder of the rules; more than once
            for several.
        equivalent: the list of mutants that no test can kill, each with a reason; by default
            `.lictor/equivalent-mutants.yaml` in the folder of the rules.
        jobs: how many mutants run at once; by default one for each processor.
        timeout: how many seconds a test may take; by default ten times as long as without a
            mutant, and at least 5.
        product: change lictor's own rules, in a checkout of lictor.
        common: the flags that every command has.
    """
    started = time.monotonic()
    if not 0 <= threshold <= _ALL:
        raise InvalidArgumentError(f"--threshold {threshold} is not a percentage. Give 0 to 100.")
    if (jobs is not None and jobs < 1) or (timeout is not None and timeout <= 0):
        raise InvalidArgumentError("--jobs and --timeout are not positive. Give numbers above 0.")
    sources = RuleSources.of_product() if product else RuleSources.of_site(common.settings.site)
    opa = find_opa()
    run = MutationRun(
        opa, sources.files, folders=sources.folders, prefix=sources.prefix, timeout=timeout
    )
    if not any(_has_rules(content) for _, content in sources.rules()):
        note(f"{sources.root} has no rules, so there is nothing to mutate")
        seconds = time.monotonic() - started
        return show_report(common, Matches([], [], []), [], threshold=threshold, seconds=seconds)
    baseline = run.baseline()
    mutants = _mutants(opa, sources, file)
    listed = equivalent or sources.root / DEFAULT_PATH
    entries = load_equivalents(listed) if equivalent or listed.exists() else []
    if file:
        entries = [entry for entry in entries if entry.identity[0] in file]
    matches = match_equivalents(entries, mutants)
    jobs = jobs or os.cpu_count() or 1
    outcomes = _run(run, matches.others, baseline, jobs, "mutants run")
    # All but the slowest tests: a disproved entry is worth a note, not more time.
    named = [mutant for mutant, _ in matches.equivalent]
    disproved = _run(run, named, baseline.quick(), jobs, "equivalent mutants tried")
    seconds = time.monotonic() - started
    return show_report(common, matches, outcomes, disproved, threshold=threshold, seconds=seconds)


def _has_rules(content: bytes) -> bool:
    lines = (line.split(b"#", 1)[0].strip() for line in content.splitlines())
    return any(line and not line.startswith((b"package ", b"import ")) for line in lines)


def _mutants(opa: OPA, sources: RuleSources, only: Sequence[str] | None) -> list[Mutant]:
    mutants = []
    rules = dict(sources.rules())
    if missing := sorted(set(only or ()) - rules.keys()):
        raise InvalidArgumentError(
            f"--file {missing[0]!r} is not a file of rules in {sources.root}."
        )
    for path, content in rules.items():
        if not only or path in only:
            mutants += make_mutants(SourceText.parse(opa, path, content))
    return mutants


def _run(
    run: MutationRun, mutants: Sequence[Mutant], baseline: Baseline, jobs: int, what: str
) -> list[MutantOutcome]:
    outcomes = run.run(mutants, baseline, jobs=jobs)
    if sys.stderr.isatty():
        console = Console(stderr=True)
        return list(track(outcomes, what, total=len(mutants), console=console, transient=True))
    done: list[MutantOutcome] = []
    for outcome in outcomes:
        done.append(outcome)
        if 10 * len(done) // len(mutants) > 10 * (len(done) - 1) // len(mutants):
            note(f"{len(done)} of {len(mutants)} {what}")
    return done
