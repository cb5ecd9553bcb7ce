"""Mutation testing: each mutant of the rules, against the tests, with `opa test`.

A mutant dies of the first test that fails with it, so the quick tests run first and the others only
where those pass. What does not compile has no effect to test, and is left out of the score.
"""

import json
import os
import re
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from bundles.build.mutants import Mutant
from bundles.exceptions import MutationError
from bundles.opa.binary import OPA

_SHARES = (0.03, 0.12, 0.35)
"""How much of all tests' time the tests of each stage but the last take, with those before."""
_NOT_RUN, _FAILED = 1, 2
"""Exit codes of `opa test`: files that do not compile, and tests that failed."""
_LEAST_LIMIT, _LIMIT_FACTOR = 5.0, 10.0
_PATIENCE = 3
_GRACE = 10.0
"""Seconds that OPA has beyond its own limits before it is killed."""
_NUMBERED = re.compile(r"#\d+$")
# Many processes of one thread each do more than few of many, and end before garbage matters.
_ENVIRONMENT = {"GOMAXPROCS": "1", "GOGC": "400"}


class Verdict(StrEnum):
    """What became of a mutant."""

    KILLED = "killed"
    SURVIVED = "survived"
    INVALID = "invalid"
    TIMED_OUT = "timed_out"


@dataclass(frozen=True, slots=True)
class MutantOutcome:
    """A mutant, what became of it, and the test that noticed it, if a test did."""

    mutant: Mutant
    verdict: Verdict
    killed_by: str | None = None


@dataclass(frozen=True, slots=True)
class Baseline:
    """The tests as they run without a mutant.

    Attributes:
        durations: how long each test took, in seconds, by its full name.
        timeout: how long a test may take with a mutant, in seconds.
    """

    durations: Mapping[str, float]
    timeout: float

    def stages(self) -> list[list[str]]:
        """The names of the tests, the quickest first, in stages that take ever longer."""
        total = sum(self.durations.values())
        stages: list[list[str]] = [[] for _ in range(len(_SHARES) + 1)]
        passed = 0.0
        for name in sorted(self.durations, key=self.durations.__getitem__):
            passed += self.durations[name]
            stages[sum(passed > share * total for share in _SHARES)].append(name)
        return [stage for stage in stages if stage]

    def quick(self) -> "Baseline":
        """The same without the slowest tests, where there are others."""
        names = {name for stage in self.stages()[:-1] for name in stage} or self.durations.keys()
        return Baseline({name: self.durations[name] for name in names}, self.timeout)


@dataclass(frozen=True, slots=True)
class _Run:
    """What one run of `opa test` said."""

    code: int
    results: Sequence[dict[str, Any]]
    printed: str


class MutationRun:
    """Runs the tests of a set of files, with and without mutants.

    Args:
        opa: the binary.
        files: the rules, their tests and their data: each file's content by its relative path.
        folders: the folders that `opa test` is given; data in them has its path from there.
        prefix: what stands before a mutant's file in the paths of `files`.
        timeout: how long a test may take, in seconds; by default ten times as long as without a
            mutant.
    """

    def __init__(
        self,
        opa: OPA,
        files: Mapping[str, bytes],
        *,
        folders: Sequence[str] = (".",),
        prefix: str = "",
        timeout: float | None = None,
    ) -> None:
        self._opa = opa
        self._files = files
        self._folders = folders
        self._prefix = prefix
        self._timeout = timeout

    def baseline(self) -> Baseline:
        """Run the tests as they are.

        Raises:
            MutationError: there are none, or they do not pass.
        """
        with tempfile.TemporaryDirectory() as name:
            _write(Path(name), self._files)
            limit = self._timeout or 60
            try:
                run = self._test(Path(name), timeout=limit, kill_after=max(600, limit))
            except subprocess.TimeoutExpired:
                raise MutationError("The tests do not end. Correct that first.") from None
        bad = [result for result in run.results if _has_failed(result)]
        if bad:
            names = ", ".join(sorted(set(map(_name, bad))))
            raise MutationError(
                f"{len(bad)} of {len(run.results)} tests fail without any mutant: {names}. "
                "Correct them first."
            )
        if run.code:
            raise MutationError(f"The tests cannot be run: {run.printed}")
        durations: dict[str, float] = {}
        for result in run.results:
            name = _name(result)
            durations[name] = durations.get(name, 0) + result["duration"] / 1e9
        if not durations:
            raise MutationError(
                "There are no tests, so every mutant would survive. "
                "Write rules named test_… in files named …_test.rego."
            )
        slowest = max(durations.values())
        return Baseline(durations, self._timeout or max(_LEAST_LIMIT, _LIMIT_FACTOR * slowest))

    def run(
        self, mutants: Iterable[Mutant], baseline: Baseline, *, jobs: int
    ) -> Iterator[MutantOutcome]:
        """Run the tests against each mutant, several at once; outcomes come as they are known."""
        stages = baseline.stages()
        with ExitStack() as stack:
            folders: SimpleQueue[Path] = SimpleQueue()
            for _ in range(jobs):
                folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
                _write(folder, self._files)
                folders.put(folder)
            pool = stack.enter_context(ThreadPoolExecutor(max_workers=jobs))
            # Called before the pool's own exit, which would wait for all that has not begun.
            stack.callback(pool.shutdown, wait=False, cancel_futures=True)
            futures = [
                pool.submit(self._outcome, mutant, folders, stages, baseline) for mutant in mutants
            ]
            for future in as_completed(futures):
                yield future.result()

    def _outcome(
        self,
        mutant: Mutant,
        folders: "SimpleQueue[Path]",
        stages: Sequence[Sequence[str]],
        baseline: Baseline,
    ) -> MutantOutcome:
        folder, file = folders.get(), self._prefix + mutant.file
        try:
            (folder / file).write_bytes(mutant.content.encode())
            for stage in stages:
                outcome = self._stage(mutant, folder, stage, baseline.timeout)
                if outcome.verdict is Verdict.TIMED_OUT:
                    # It may be the machine that was slow.
                    outcome = self._stage(mutant, folder, stage, _PATIENCE * baseline.timeout)
                if outcome.verdict is not Verdict.SURVIVED:
                    break
        finally:
            (folder / file).write_bytes(self._files[file])
            folders.put(folder)
        return outcome

    def _stage(
        self, mutant: Mutant, folder: Path, names: Sequence[str], limit: float
    ) -> MutantOutcome:
        try:
            run = self._test(folder, names=names, timeout=limit, kill_after=2 * limit + _GRACE)
        except subprocess.TimeoutExpired:
            return MutantOutcome(mutant, Verdict.TIMED_OUT)
        if run.code == _NOT_RUN and not run.results:
            return MutantOutcome(mutant, Verdict.INVALID)
        failed = [result for result in run.results if _has_failed(result)]
        if failed:
            slow = all(_has_timed_out(result) for result in failed)
            return MutantOutcome(
                mutant, Verdict.TIMED_OUT if slow else Verdict.KILLED, min(map(_name, failed))
            )
        if run.code:
            # OPA itself broke down, as it does over a recursion that it does not see.
            return MutantOutcome(mutant, Verdict.KILLED)
        if {_name(result) for result in run.results} != set(names):
            raise MutationError("opa test did not run the requested tests.")
        return MutantOutcome(mutant, Verdict.SURVIVED)

    def _test(
        self, folder: Path, *, names: Sequence[str] = (), timeout: float, kill_after: float
    ) -> _Run:
        only = [f"--run=^({'|'.join(map(re.escape, names))})$"] if names else []
        done = subprocess.run(
            [
                self._opa.path, "test", "--format=json", "--parallel=1",
                f"--timeout={round(1000 * timeout)}ms", *only, "--",
                *self._folders,
            ],
            cwd=folder, env=os.environ | _ENVIRONMENT, capture_output=True, check=False,
            timeout=kill_after,
        )  # fmt: skip
        try:
            results = json.loads(done.stdout)
        except ValueError:
            results = []
        printed = (done.stderr + (b"" if results else done.stdout)).decode(errors="replace")
        return _Run(done.returncode, results or [], printed.strip())


def _write(folder: Path, files: Mapping[str, bytes]) -> None:
    for path, content in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)


def _name(result: Mapping[str, Any]) -> str:
    # OPA numbers the rules of one name, but selects them all by that name.
    return f"{result['package']}.{_NUMBERED.sub('', result['name'])}"


def _has_failed(result: Mapping[str, Any]) -> bool:
    return bool(result.get("fail") or result.get("error"))


def _has_timed_out(result: Mapping[str, Any]) -> bool:
    return (result.get("error") or {}).get("code") == "eval_cancel_error"
