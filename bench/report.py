"""Writes `docs/benchmarks.md` from what `bench.revocation --json` has printed, one file a run."""

import argparse
import json
import os
import platform
from pathlib import Path

_HEAD = """\
# Benchmarks

How long a revocation takes to be effective on every OPA, with a large registry and under load.

`bench/revocation.py` starts a registry, `lictor serve`, OPAs, and a process that requests 200
decisions a second. It alternates between `team rotate` and `token revoke`. The measured time
includes the acknowledgements of all OPAs, as with `--wait`, but not the start of Python. The
publisher compacts one shard a second meanwhile. After each revocation the benchmark checks that
every OPA refuses the revoked bearer.

"""

_COLUMNS = [
    ("registry", "registry"), ("tokens", "tokens"), ("opas", "OPAs"), ("n", "n"),
    ("p50_ms", "p50 ms"), ("p99_ms", "p99 ms"), ("max_ms", "max ms"),
    ("decision_p50_ms", "decision p50"), ("decision_p99_ms", "decision p99"),
    ("opa_peak_mb", "OPA peak MB"), ("publish_seconds", "first publication s"),
    ("publisher_peak_mb", "publisher peak MB"), ("compactions", "compactions"),
]  # fmt: skip


def machine():
    model = next(
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    )
    memory = int(Path("/proc/meminfo").read_text().split()[1]) / 2**20
    return (
        f"{os.cpu_count()} CPUs ({model}) of a shared virtual machine, {memory:.0f} GiB, Linux "
        f"{platform.release()}, Python {platform.python_version()}, OPA 1.22.2 with "
        "Go's settings as `lictor opa` makes them. The load, the OPAs, `lictor serve` and the "
        "registry share the CPUs."
    )


def table(results):
    yield "| " + " | ".join(title for _, title in _COLUMNS) + " |"
    yield "| --- " * len(_COLUMNS) + "|"
    for one in results:
        cells = (
            f"{one[key]:,}" if isinstance(one[key], int) else str(one[key]) for key, _ in _COLUMNS
        )
        yield "| " + " | ".join(cells) + " |"


def plot(results):
    """Percentiles of each run, as a Mermaid chart."""
    percents = list(results[0]["percentiles_ms"])
    highest = max(max(one["percentiles_ms"].values()) for one in results)
    yield "```mermaid"
    yield "xychart-beta"
    yield '    title "Revocation effective everywhere: percentiles"'
    yield f"    x-axis [{', '.join(f'p{percent}' for percent in percents)}]"
    yield f'    y-axis "milliseconds" 0 --> {highest:.0f}'
    for one in results:
        yield f"    line {list(one['percentiles_ms'].values())}"
    yield "```"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", nargs="+", type=Path)
    results = [json.loads(path.read_text()) for path in parser.parse_args().results]
    print(_HEAD + f"The machine: {machine()}\n")
    print("\n".join(table(results)))
    print("\nEach line of the chart is a row of the table, in the same order.\n")
    print("\n".join(plot(results)))
    print("\nThese commands print the rows, and `python -m bench.report` the page:\n\n```sh")
    for one in results:
        print(
            f"python -m bench.revocation --registry {one['registry']} --tokens {one['tokens']} "
            f"--opas {one['opas']} --revocations {one['n']} --json"
        )
    print("```")


if __name__ == "__main__":
    main()
