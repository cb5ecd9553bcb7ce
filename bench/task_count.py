"""Runs a Python program, and counts its asyncio tasks when another process requests it.

`python -m bench.task_count FILE PROGRAM ARGUMENT…` runs a module or a script. On SIGUSR1 it writes
the number of tasks of the running loop into the file. The program itself is not changed.
"""

import asyncio
import os
import runpy
import signal
import sys
import time
from pathlib import Path

_LATE = 20.0


def run_counted(file, program, *arguments):
    """Run a program in this process; SIGUSR1 writes the number of its tasks into the file."""
    path = Path(file)

    def write_count(*_):
        fresh = path.with_suffix(".new")
        fresh.write_text(str(len(asyncio.all_tasks())))
        fresh.replace(path)

    signal.signal(signal.SIGUSR1, write_count)
    path.write_text("0")
    sys.argv = [program, *arguments]
    if program.endswith(".py"):
        runpy.run_path(program, run_name="__main__")
    else:
        runpy.run_module(program, run_name="__main__", alter_sys=True)


def count_tasks(pid, file):
    """The number of asyncio tasks of a process that `run_counted` runs.

    Raises:
        TimeoutError: the process did not answer.
    """
    before = file.stat().st_mtime_ns
    os.kill(pid, signal.SIGUSR1)
    latest = time.monotonic() + _LATE
    while file.stat().st_mtime_ns == before:
        if time.monotonic() > latest:
            raise TimeoutError(f"process {pid} did not count its tasks in {_LATE:.0f} s")
        time.sleep(0.005)
    return int(file.read_text())


if __name__ == "__main__":
    run_counted(*sys.argv[1:])
