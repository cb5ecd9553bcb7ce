"""A million queries to OPA and to the model: `python -m tests.system.model.fuzz [--queries N] [--seed N] [--json]`.

Prints how often each reason was the answer, and exits with 1 at a disagreement, after the smallest dataset
and query that show it. Every batch draws from its own seed, so a run can be had again. With each
twentieth dataset comes one try of each law.
"""

import argparse
import json
import logging
import random
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bundles.opa.binary import find_opa
from tests.support.plain_opa import PlainOPA

from .datasets import random_dataset, random_query
from .laws import LAWS
from .model import ORDER
from .queries import OPTIONS, differences, smallest

QUERIES, DATASETS = 50, 100
"""Queries a dataset, datasets a batch."""


@dataclass
class Tally:
    """What came of a batch, or of all."""

    datasets: int = 0
    calls: Counter = field(default_factory=Counter)
    lists: Counter = field(default_factory=Counter)
    shown: int = 0
    laws: int = 0
    wrong: list = field(default_factory=list)

    def add(self, other):
        """Count a batch's datasets and answers to these."""
        self.datasets += other.datasets
        self.calls += other.calls
        self.lists += other.lists
        self.shown += other.shown
        self.laws += other.laws
        self.wrong += other.wrong

    @property
    def queries(self):
        """How many were answered."""
        return self.calls.total() + self.lists.total()


def run_batches(seeds):
    """The batches of these seeds, one after the other, on an OPA of their own."""
    logging.disable(logging.WARNING)  # the publisher says of each record why it was refused
    with tempfile.TemporaryDirectory(prefix="lt-", dir="/tmp") as folder:
        opa = PlainOPA(find_opa(), Path(folder), options=OPTIONS).start()
        try:
            return [_batch(opa, seed) for seed in seeds]
        finally:
            opa.kill()


def _batch(opa, seed):
    chance, tally = random.Random(seed), Tally()
    for number in range(DATASETS):
        laid, asked = random_dataset(chance), [random_query(chance) for _ in range(QUERIES)]
        wanted, found = differences(opa, laid, asked)
        tally.datasets += 1
        for query, answer in zip(asked, wanted, strict=True):
            (tally.lists if "actions" in query else tally.calls)[answer["reason"]] += 1
            tally.shown += len(answer.get("indices", ()))
        tally.wrong += (
            [f"batch {seed}, {len(found)} of a dataset:\n{smallest(opa, found[0])}"]
            if found
            else []
        )
        for law in LAWS if number % 20 == 0 else ():
            broken = law(opa, chance)
            tally.laws += 1
            tally.wrong += (
                [f"batch {seed}: {law.__name__} does not hold: {broken}"] if broken else []
            )
    return tally


def fuzz(queries, seed, processes):
    """All batches, over some processes; the tally, and the seconds that it took."""
    began, whole = time.monotonic(), Tally()
    batches = [f"{seed}-{n}" for n in range(-(-queries // (QUERIES * DATASETS)))]
    # An OPA's start is a part of a second: ten batches an OPA, and a word after each ten.
    parts = [batches[n : n + 10] for n in range(0, len(batches), 10)]
    with ProcessPoolExecutor(processes) as pool:
        for done in as_completed([pool.submit(run_batches, part) for part in parts]):
            for tally in done.result():
                whole.add(tally)
            said = f"{whole.queries} queries, {time.monotonic() - began:.0f} s, {len(whole.wrong)} wrong"
            print(said, file=sys.stderr, flush=True)
    return whole, time.monotonic() - began


def table(tally):
    """How often each reason was the answer."""
    rows = Table("reason", "calls", "lists", "of all")
    for columns in rows.columns[1:]:
        columns.justify = "right"
    for reason in ("ok", *ORDER):
        calls, lists = tally.calls[reason], tally.lists[reason]
        share = f"{(calls + lists) / tally.queries:.2%}"
        rows.add_row(reason, f"{calls:,}", f"{lists:,}" if calls or lists else "", share)
    rows.add_section()
    rows.add_row("", f"{tally.calls.total():,}", f"{tally.lists.total():,}", "")
    return rows


def main():
    """Run as the arguments say; the exit code is 0 when nothing disagreed and no reason was left out."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--queries", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--json", action="store_true", help="one object instead of the table")
    given = parser.parse_args()
    tally, seconds = fuzz(given.queries, given.seed, given.processes)
    left_out = [reason for reason in ("ok", *ORDER) if not tally.calls[reason]]
    if given.json:
        print(json.dumps({
            "queries": tally.queries, "datasets": tally.datasets, "seconds": round(seconds, 1), "seed": given.seed,
            "calls": tally.calls, "lists": tally.lists, "laws": tally.laws, "disagreements": tally.wrong,
        }))  # fmt: skip
    else:
        console = Console(width=100, highlight=False, soft_wrap=True)
        console.print(table(tally))
        console.print(
            f"seed {given.seed}: {tally.queries:,} queries in {tally.datasets:,} datasets, {tally.shown:,} actions "
            f"listed, {tally.laws:,} tries of laws; {seconds:,.0f} s, {tally.queries / seconds:,.0f} queries/s; "
            f"{len(tally.wrong)} disagreements"
        )
        for one in tally.wrong[:3]:
            console.print(one, markup=False)
    if left_out:
        print(f"never reached: {', '.join(left_out)}", file=sys.stderr)
    return 1 if tally.wrong or left_out else 0


if __name__ == "__main__":
    sys.exit(main())
