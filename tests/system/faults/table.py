"""The table of the docs, from the results of a run."""

import statistics
import time
from collections import Counter, defaultdict
from pathlib import Path

BEGIN, END = "<!-- faults: begin -->", "<!-- faults: end -->"
PAGE = Path(__file__).parents[3] / "docs" / "reliability.md"
_OUTAGES = ("unavailable", "behind", "stale_data")
_HEAD = (
    "| fault | seeds | wrong allows | `strict` said | `bounded` said | recovery p50 / max, s | lost | leaked |\n"
    "| --- | --- | --- | --- | --- | --- | --- | --- |"
)


def rows(results):
    """Fault to its results, in the order of the matrix."""
    found = defaultdict(list)
    for result in results:
        found[result.fault].append(result)
    return found


def table(results):
    lines = [_HEAD]
    for name, row in rows(results).items():
        ran = [one for one in row if not one.skipped]
        if not ran:
            lines.append(f"| {name} | 0 | not run: {row[0].skipped} | | | | | |")
            continue
        took = [one.recovery for one in ran]
        lines.append(
            f"| {name} | {len(ran)} | {sum(one.wrong for one in ran)} | {_said(ran, 'strict')} "
            f"| {_said(ran, 'bounded')} | {statistics.median(took):.2f} / {max(took):.2f} "
            f"| {sum(one.lost for one in ran)} | {sum(one.leaked for one in ran)} |"
        )
    return "\n".join(lines)


def summary(results):
    """A sentence or two about a run."""
    ran = [one for one in results if not one.skipped]
    if not ran:
        return "Nothing was run."
    took = sorted(one.recovery for one in ran)
    calls, late = sum(one.calls for one in ran), sum(bool(one.late) for one in ran)
    return (
        f"{len(rows(ran))} faults, {len(ran)} trials, {calls:,} calls: {sum(one.wrong for one in ran)} wrong "
        f"allows, {sum(one.lost for one in ran)} lost, {sum(one.leaked for one in ran)} leaked; "
        f"{sum(bool(one.faults) for one in ran)} trials with anything wrong. Recovery p50 "
        f"{statistics.median(took):.2f} s, p99 {took[len(took) * 99 // 100]:.2f} s, max {took[-1]:.2f} s; "
        f"{late} past 5 s. {time.strftime('%Y-%m-%d', time.gmtime())}."
    )


def _said(row, mode):
    """The denials that a fault explains; nothing where no caller noticed."""
    total = sum((Counter(one.reasons.get(mode, {})) for one in row), Counter())
    reported = [f"`{reason}` {total[reason]:,}" for reason in _OUTAGES if total[reason]]
    return ", ".join(reported) or "as ever"


def write(text, page=PAGE):
    """Put the table between the markers of the page."""
    before, _, rest = page.read_text().partition(BEGIN)
    after = rest.partition(END)[2]
    page.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}")
