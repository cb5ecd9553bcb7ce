"""The fault matrix: `python -m tests.faults [--seeds N] [--fault WORDS] [--write]`.

Prints a line for each cell that went wrong, then the table; exits with 1 where anything was wrong. `--write` puts
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
import time
from pathlib import Path

from . import table
from .cell import Result
from .families import NAMES
from .run import run


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--first", type=int, default=1, help="the first seed")
    parser.add_argument("--fault", default="", help="only those whose name has these words")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--worlds", type=int, default=2, help="in each process")
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
    names = [name for name in NAMES if arguments.fault in name]
    seeds = range(arguments.first, arguments.first + arguments.seeds)
    if arguments.part:
        _part(arguments, names, seeds)
        return 0
    began = time.monotonic()
    if arguments.kept:
        results = _read(arguments.keep)
    else:
        results = _in_processes(arguments)
    short = len(results) - len(names) * len(seeds) if not arguments.kept else 0
    results.sort(key=lambda one: (NAMES.index(one.fault), one.seed))
    text = table.table(results)
    summary = table.summary(results)
    print(text, f"{summary} {time.monotonic() - began:.0f} s.", sep="\n\n")
    if arguments.write:
        table.write(f"{summary}\n\n{text}")
    return 1 if short or any(one.faults or one.late for one in results) else 0


def _in_processes(arguments):
    """The parts in processes of their own. They are of our group: Ctrl-C ends them as well."""
    with tempfile.TemporaryDirectory(prefix="lf-", dir="/tmp") as folder:
        files = [Path(folder) / f"{number}.jsonl" for number in range(arguments.processes)]
        running = [
            subprocess.Popen(
                [
                    sys.executable, "-m", "tests.faults", f"--seeds={arguments.seeds}",
                    f"--first={arguments.first}", f"--fault={arguments.fault}",
                    f"--worlds={arguments.worlds}", f"--part={number}/{len(files)}/{file}",
                ],
            )
            for number, file in enumerate(files)
        ]  # fmt: skip
        try:
            for one in running:
                one.wait()
        finally:
            for one in running:
                if one.poll() is None:
                    one.terminate()
                one.wait()
        return [one for file in files if file.exists() for one in _read(file)]


def _read(file):
    return [Result(**json.loads(line)) for line in file.read_text().splitlines()]


def _part(arguments, names, seeds):
    number, of, file = arguments.part.split("/", 2)
    with Path(file).open("w") as out:

        def told(result):
            line = json.dumps(dataclasses.asdict(result)) + "\n"
            print(line, end="", file=out, flush=True)
            if arguments.keep:
                with arguments.keep.open("a") as kept:
                    kept.write(line)
            for fault in sorted({*result.faults, *filter(None, [result.late])}):
                print(
                    f"WRONG {result.fault}, seed {result.seed}, {result.change}: {fault}",
                    flush=True,
                )

        asyncio.run(run(names[int(number) :: int(of)], seeds, worlds=arguments.worlds, told=told))


if __name__ == "__main__":
    sys.exit(main())
