"""The fault matrix: `python -m tests.system.faults [--seeds N] [--fault WORDS] [--write]`.

Prints a line for each trial that went wrong, then the table; exits with 1 where anything was wrong. `--write` puts
the table into docs/reliability.md.
"""

import argparse
import asyncio
import dataclasses
import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from . import table
from .families import FAMILIES, NAMES
from .run import run
from .trial import Result


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--first", type=int, default=1, help="the first seed")
    parser.add_argument("--fault", default="", help="only those whose name has these words")
    parser.add_argument("--family", action="append", default=[], choices=FAMILIES)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--deployments", type=int, default=1, help="in each process")
    parser.add_argument("--write", action="store_true")
    parser.add_argument(
        "--keep", type=Path, help="add the results to this file, one JSON object a line"
    )
    parser.add_argument(
        "--kept", action="store_true", help="run nothing: the table of what is kept"
    )
    parser.add_argument("--part", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    # All that was started ends with us, also where a shell had us ignore Ctrl-C.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda *_: os.kill(os.getpid(), signal.SIGINT))
    names = [
        name
        for family in arguments.family or FAMILIES
        for name in FAMILIES[family].faults
        if arguments.fault in name
    ]
    seeds = range(arguments.first, arguments.first + arguments.seeds)
    if arguments.part:
        _part(arguments, names, seeds)
        return 0
    with tempfile.TemporaryDirectory(prefix="lf-", dir="/tmp") as folder:
        keep = arguments.keep or Path(folder) / "results.jsonl"
        if not arguments.kept:
            _in_processes(arguments, keep)
        results = [Result(**json.loads(line)) for line in keep.read_text().splitlines()]
    results.sort(key=lambda one: (NAMES.index(one.fault), one.seed))
    text, summary = table.table(results), table.summary(results)
    print(text, summary, sep="\n\n")
    if arguments.write:
        table.write(f"{summary}\n\n{text}")
    missing = {(name, seed) for name in names for seed in seeds} - {
        (one.fault, one.seed) for one in results
    }
    return 1 if missing or any(one.faults or one.late for one in results) else 0


def _in_processes(arguments, keep):
    """The parts in processes of their own. They are of our group: Ctrl-C ends them as well."""
    same = [
        f"--{name}={getattr(arguments, name)}"
        for name in ("seeds", "first", "fault", "deployments")
    ]
    same += [f"--family={family}" for family in arguments.family]
    running = [
        subprocess.Popen(
            [
                sys.executable, "-m", "tests.system.faults", *same, f"--keep={keep}",
                f"--part={number}/{arguments.processes}",
            ],
        )
        for number in range(arguments.processes)
    ]  # fmt: skip
    try:
        for one in running:
            one.wait()
    finally:
        for one in running:
            if one.poll() is None:
                one.terminate()
            one.wait()


def _part(arguments, names, seeds):
    number, of = map(int, arguments.part.split("/"))

    def print_result(result):
        with arguments.keep.open("a") as file:
            file.write(json.dumps(dataclasses.asdict(result)) + "\n")
        for fault in sorted({*result.faults, *filter(None, [result.late])}):
            print(f"WRONG {result.fault}, seed {result.seed}, {result.change}: {fault}", flush=True)

    asyncio.run(
        run(names[number::of], seeds, deployments=arguments.deployments, on_result=print_result)
    )


if __name__ == "__main__":
    sys.exit(main())
