"""All measurements in one command: `make bench`, or `python -m bench.run [--full] [--only PART,…]`.

Starts what it needs, measures part by part, prints tables, and writes `bench/results.json`, plots,
and a section of `docs/benchmarks.md`. What a machine lacks costs the rows that need it.
"""

import argparse
import asyncio
import json
import logging
import os
import platform
import sys
import tempfile
import time
import traceback
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from bench import decisions, fleet_model, growth, mcp_calls, throughput
from bench.cases import cases_of, change_records, write_dataset
from bench.document import replace_section, section
from bench.filled import FilledDeployment, filled
from bench.progress import Progress
from bench.tables import aims_table, notes, rows_tables
from bundles.opa.binary import PINNED
from tests.support.redis import redis_server

PARTS = {
    "decisions": decisions,
    "calls": mcp_calls,
    "throughput": throughput,
    "growth": growth,
    "fleet": fleet_model,
}
_NEED_DEPLOYMENT = ("decisions", "calls", "throughput")
_TOKENS = 10_000

_ROOT = Path(__file__).parents[1]
_RESULTS = _ROOT / "bench" / "results.json"
_PAGE = _ROOT / "docs" / "benchmarks.md"
_IMAGES = _ROOT / "docs" / "images"


@dataclass
class Bench:
    """What the parts share.

    Attributes:
        folder: for sockets and files; removed at the end.
        rounds: of what is compared in turns.
        full: whether all sizes are measured.
        say: prints a line.
        progress: prints what is being measured, and how long it may take.
        made: the deployment, while one runs.
        cases: the cases, by name.
        dataset: the file with the records.
        parts: the results so far, by part.
        known: the results of earlier runs, by part.
        legacy: the peer of the legacy way, while it runs.
    """

    folder: Path
    rounds: int
    full: bool
    progress: Progress
    redis_url: str = ""
    made: FilledDeployment | None = None
    cases: dict = field(default_factory=dict)
    dataset: Path | None = None
    parts: dict = field(default_factory=dict)
    known: dict = field(default_factory=dict)
    legacy: object = None

    def say(self, text):
        self.progress.say(text)


async def run(bench, chosen):
    """Measure the chosen parts; a part that fails as a whole is reported and left out."""
    async with AsyncExitStack() as exit_:
        for key in chosen:
            if key in _NEED_DEPLOYMENT and bench.made is None:
                await _deploy(exit_, bench)
            elif key not in _NEED_DEPLOYMENT:
                await exit_.aclose()  # the machine is for the next deployment alone
                bench.made = None
            bench.progress.begin(key, PARTS[key].TITLE)
            try:
                bench.parts[key] = await PARTS[key].measure(bench)
            except Exception as error:  # noqa: BLE001 - the other parts are measured all the same
                traceback.print_exc()
                why = f"{type(error).__name__}: {error}".splitlines()[0][:300]
                bench.parts[key] = {"rows": [], "ratios": [], "missing": {"all of it": why}}
            bench.parts[key]["seconds"] = round(bench.progress.end(key))
            show(PARTS[key], bench.parts[key])


async def _deploy(exit_, bench):
    bench.say(f"starting lictor serve and OPA with {_TOKENS:,} tokens")
    bench.made = await exit_.enter_async_context(
        filled(bench.folder, _TOKENS, redis_url=bench.redis_url, change=change_records)
    )
    bench.cases = cases_of(bench.made.generated, bench.made.mint_team)
    bench.dataset = bench.folder / "dataset.json"
    made = bench.made
    write_dataset(bench.dataset, made.generated, made.database, made.kids)


def show(module, part):
    """Print a part's tables."""
    print(f"\n{module.TITLE}")
    lines = [*rows_tables(part["rows"]), *notes(part["rows"])]
    if any(one["aim"] is not None for one in part["ratios"]):
        lines += ["", *aims_table(part["ratios"])]
    if more := getattr(module, "more", None):
        lines += more(part)
    if part["missing"]:
        lines += ["", *(f"left out: {name}: {why}" for name, why in part["missing"].items())]
    print("\n".join(lines), flush=True)


def machine():
    """The machine, in one sentence."""
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    memory = int(Path("/proc/meminfo").read_text().split()[1]) / 2**20
    return (
        f"{os.cpu_count()} CPUs ({model}) of a shared virtual machine, {memory:.0f} GiB, Linux "
        f"{platform.release()}, Python {platform.python_version()}, OPA {PINNED}. Everything that "
        "a part starts shares the CPUs."
    )


def draw(parts, images, page):
    """Draw each part's plots, and note their paths, as the page refers to them."""
    for key, part in parts.items():
        if (plot := getattr(PARTS[key], "plot", None)) and part["rows"]:
            part["plots"] = [
                [os.path.relpath(path, page.parent), title] for path, title in plot(part, images)
            ]


def write(results, arguments):
    """Write the figures, the plots and the page's section."""
    parts = {key: results["parts"][key] for key in PARTS if key in results["parts"]}
    draw(parts, arguments.images, arguments.page)
    arguments.results.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n")
    page = arguments.page.read_text() if arguments.page.exists() else "# Benchmarks\n"
    arguments.page.write_text(replace_section(page, section(results, PARTS)))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--full", action="store_true", help="all sizes, up to a million tokens")
    parser.add_argument("--rounds", type=int, default=60, help="rounds of what takes turns")
    parser.add_argument("--only", default=",".join(PARTS), help="parts, comma-separated")
    parser.add_argument("--results", type=Path, default=_RESULTS)
    parser.add_argument("--page", type=Path, default=_PAGE)
    parser.add_argument("--images", type=Path, default=_IMAGES)
    parser.add_argument("--write-only", action="store_true", help="the page, of earlier results")
    arguments = parser.parse_args()
    known = json.loads(arguments.results.read_text()) if arguments.results.exists() else {}
    if arguments.write_only:
        write(known, arguments)
        return
    chosen = [key for key in PARTS if key in arguments.only.split(",")]
    # It is expected that OPA is not ready at first.
    logging.getLogger("pdp_client").setLevel(logging.ERROR)
    began = time.monotonic()
    with ExitStack() as exit_:
        folder = exit_.enter_context(tempfile.TemporaryDirectory(prefix="lb-", dir="/tmp"))
        expected = {
            key: known.get("parts", {}).get(key, {}).get("seconds") or PARTS[key].SECONDS
            for key in chosen
        }
        progress = Progress(expected)
        bench = Bench(
            Path(folder), arguments.rounds, arguments.full, progress, known=known.get("parts", {})
        )
        try:
            bench.redis_url = exit_.enter_context(redis_server()).url
        except Exception as error:  # noqa: BLE001 - without it, its rows are left out
            progress.say(f"no Redis, so nothing is cached: {error}")
        asyncio.run(run(bench, chosen))
    parts = {key: {**known.get("parts", {}), **bench.parts}[key] for key in PARTS
             if key in bench.parts or key in known.get("parts", {})}  # fmt: skip
    results = {"machine": machine(), "full": arguments.full, "parts": parts}
    write(results, arguments)
    print("\nAims")
    print("\n".join(aims_table([one for part in parts.values() for one in part["ratios"]])))
    print(
        f"\n{time.monotonic() - began:.0f} s; written: {arguments.page}, {arguments.results}, "
        f"{arguments.images}/"
    )
    sys.exit(0)


if __name__ == "__main__":
    main()
