"""The output of `lictor policies mutate`."""

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

from bundles.build.equivalents import Matches
from bundles.build.mutants import Mutant
from bundles.build.mutation import MutantOutcome, Verdict
from lictor.console import Common, note
from lictor_common.text import printable


def show_report(
    common: Common,
    matches: Matches,
    outcomes: Sequence[MutantOutcome],
    tried: Sequence[MutantOutcome] = (),
    *,
    threshold: float,
    seconds: float,
) -> int:
    """Print the survivors and a summary; problems of the list of equivalents go to stderr.

    Args:
        common: the flags that every command has.
        matches: what the list of equivalents says of the mutants.
        outcomes: what became of the mutants that it does not name.
        tried: what became of those that it names.
        threshold: the least score, in percent.
        seconds: how long all of it took.

    Returns:
        The exit code: 1 where the score is below the threshold.
    """
    counts = Counter(outcome.verdict for outcome in outcomes)
    killed = counts[Verdict.KILLED] + counts[Verdict.TIMED_OUT]
    survived = counts[Verdict.SURVIVED]
    score = 100 * killed / (killed + survived) if killed + survived else None
    passed = score is None or score >= threshold
    survivors = sorted(
        (outcome.mutant for outcome in outcomes if outcome.verdict is Verdict.SURVIVED),
        key=lambda mutant: (mutant.file, mutant.row, mutant.operator, mutant.occurrence),
    )
    problems = [*matches.problems, *(_disproof(one) for one in tried if one.killed_by)]
    summary = {
        "mutants": len(outcomes) + len(matches.equivalent),
        "killed": counts[Verdict.KILLED],
        "timed_out": counts[Verdict.TIMED_OUT],
        "survived": survived,
        "invalid": counts[Verdict.INVALID],
        "equivalent": len(matches.equivalent),
        # Rounded down, so that an incomplete score never shows as 100.
        "score": None if score is None else math.floor(10 * score) / 10,
        "threshold": threshold,
        "passed": passed,
        "seconds": round(seconds, 1),
    }
    if common.format == "json":
        common.show({**summary, "survivors": list(map(_plain, survivors)), "problems": problems})
    else:
        for mutant in survivors:
            _show(mutant)
        common.show(summary)
    for problem in problems:
        note(f"equivalent mutants: {problem}")
    return int(not passed)


def _disproof(outcome: MutantOutcome) -> str:
    mutant = outcome.mutant
    return (
        f"{mutant.file}:{mutant.row}: {mutant.operator} of `{mutant.before}` is listed, "
        f"but {outcome.killed_by} tells it from the rule. Remove it."
    )


def _plain(mutant: Mutant) -> dict[str, Any]:
    names = ("file", "row", "rule", "operator", "before", "after", "occurrence", "diff")
    return {name: getattr(mutant, name) for name in names}


def _show(mutant: Mutant) -> None:
    print(printable(f"{mutant.file}:{mutant.row}: {mutant.operator} in {mutant.rule}"))
    for line in mutant.diff.splitlines():
        print("    " + printable(line.expandtabs(4)))
    print()
