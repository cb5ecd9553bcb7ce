"""Mutation testing of the client and the plugin: `python tests/system/mutation/run.py [--sample N] [MODULE ...]`.

mutmut changes the source in small ways and runs, for each change, the tests that reach the changed function until one
of them fails. mutmut has no samples, so this draws one, works in a copy of the tree, and prints a table and the mutants
that no test noticed. Exits with 1 where fewer than `--threshold` percent were noticed.
"""

import argparse
import contextlib
import json
import math
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import Counter, defaultdict
from pathlib import Path

ROOT = Path(__file__).parents[3]
NOTICED = ("killed", "timeout")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("modules", nargs="*", help="files to change, as globs; all without any")
    parser.add_argument("--sample", type=int, help="how many mutants to run; all without it")
    parser.add_argument("--seed", type=int, default=1, help="which sample")
    parser.add_argument("--test", action="append", help="a file or folder of tests; all without it")
    parser.add_argument("--workers", type=int, default=2, help="mutants that run at once")
    parser.add_argument("--threshold", type=float, default=90, help="percent to be noticed")
    parser.add_argument("--json", type=Path, help="write what became of each mutant to this file")
    parser.add_argument("--in-copy", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if not arguments.in_copy:
        return run_in_copy(sys.argv[1:])
    verdicts = run_mutants(arguments)
    print(format_table(verdicts))
    for name in sorted(name for name, verdict in verdicts.items() if verdict not in NOTICED):
        print(f"\n{name}: {verdicts[name]}\n{changed_lines(name)}")
    if arguments.json:
        arguments.json.write_text(json.dumps(verdicts, indent=1, sort_keys=True))
    noticed = sum(verdict in NOTICED for verdict in verdicts.values())
    return int(100 * noticed < arguments.threshold * len(verdicts))


def run_in_copy(words):
    """Run this program in a copy of the tree, so that no mutant is ever in the tree itself."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with tempfile.TemporaryDirectory(
        prefix="lm-", dir="/tmp", ignore_cleanup_errors=True
    ) as folder:
        tree, temporary = Path(folder) / "tree", Path(folder) / "pytest"
        shutil.copytree(
            ROOT, tree, ignore=shutil.ignore_patterns(".*", "__pycache__", "node_modules")
        )
        # It is there before Python looks for it: what a test starts imports mutants too.
        (tree / "mutants").mkdir()
        temporary.mkdir()
        foreign = ("COVERAGE_", "COV_", "PYTEST_", "PYTHONPATH")
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(foreign)},
            "PYTHONPATH": str(tree / "mutants"),
            "PYTEST_DEBUG_TEMPROOT": str(temporary),
        }
        words = [str(Path(word).absolute()) if word.endswith(".json") else word for word in words]
        run = subprocess.Popen(
            [sys.executable, __file__, *words, "--in-copy"],
            cwd=tree, env=environment, start_new_session=True,
        )  # fmt: skip
        try:
            return run.wait()
        finally:
            # A mutant that was ended for its time leaves the OPA that its test had started.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(run.pid, signal.SIGKILL)


def run_mutants(arguments):
    """Return what became of each mutant of the sample."""
    # On import, mutmut reads its settings from the pyproject.toml in the working directory.
    from mutmut.__main__ import cli, collect_source_file_mutation_data
    from mutmut.configuration import config
    from mutmut.mutation.file_mutation import mutate_file_contents
    from mutmut.stats import status_by_exit_code
    from mutmut.utils.file_utils import walk_mutatable_files
    from mutmut.utils.format_utils import get_mutant_name

    settings = config()
    settings.only_mutate = arguments.modules
    if arguments.test:
        selection = settings.pytest_add_cli_args_test_selection
        options = [word for word in selection if word.startswith("-")]
        settings.pytest_add_cli_args_test_selection = [*arguments.test, *options]
    names = [
        get_mutant_name(path, name)
        for path in sorted(walk_mutatable_files())
        for name in mutate_file_contents(str(path), path.read_text()).mutant_names
    ]
    if arguments.sample is not None and arguments.sample < len(names):
        names = random.Random(arguments.seed).sample(names, arguments.sample)
    if not names:
        sys.exit("No mutants. Are the modules globs of files, such as 'pdp_client/bearer/*'?")
    cli(["run", "--max-children", str(arguments.workers), *names], standalone_mode=False)
    mutants, _ = collect_source_file_mutation_data(mutant_names=names)
    return {name: status_by_exit_code[exit_code] for _, name, exit_code in mutants}


def format_table(verdicts):
    """Return a line for each folder: mutants, noticed, and the interval of 95 % confidence."""
    groups = defaultdict(Counter)
    for name, verdict in verdicts.items():
        for group in ("/".join(name.partition(".x")[0].split(".")[:-1]), "all"):
            groups[group][verdict] += 1
    lines = [
        "",
        "| modules | mutants | killed | timed out | survived | no test | noticed | 95 % interval |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for group, found in sorted(groups.items(), key=lambda one: (one[0] == "all", one[0])):
        run, noticed = found.total(), sum(found[verdict] for verdict in NOTICED)
        counts = " | ".join(str(found[one]) for one in (*NOTICED, "survived", "no tests"))
        low, high = wilson_interval(noticed, run)
        lines.append(
            f"| {group} | {run} | {counts} | {noticed / run:.1%} | {low:.1%} to {high:.1%} |"
        )
    return "\n".join(lines)


def wilson_interval(noticed, run, z=1.96):
    share, spread = noticed / run, z * z / run
    half = z * math.sqrt(share * (1 - share) / run + spread / run / 4)
    return tuple((share + spread / 2 + sign * half) / (1 + spread) for sign in (-1, 1))


def changed_lines(name):
    from mutmut.mutation.diff_apply import get_diff_for_mutant

    lines = get_diff_for_mutant(name).splitlines()[3:]
    return "\n".join(f"  {line}" for line in lines if line.startswith(("+", "-")))


if __name__ == "__main__":
    sys.exit(main())
