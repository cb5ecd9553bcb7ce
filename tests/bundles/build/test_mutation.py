"""Runs of mutants against tests, with the real OPA."""

import time
from itertools import chain

import pytest

from bundles.build.mutants import make_mutants
from bundles.build.mutation import Baseline, MutationRun, Verdict
from bundles.build.source_text import SourceText
from bundles.exceptions import MutationError

RULES = b"""package site

p if input.a == 1

q if input.b == 2
"""
TESTS = b"""package site_test

import data.site

test_p if site.p with input as {"a": 1}

test_not_p if not site.p with input as {"a": 2}

todo_later if false
"""


def run_of(opa, rules=RULES, tests=TESTS, **options):
    return MutationRun(
        opa, {"r/a.rego": rules, "r/a_test.rego": tests}, folders=["r"], prefix="r/", **options
    )


def verdicts(opa, rules=RULES, tests=TESTS, **options):
    run = run_of(opa, rules, tests, **options)
    mutants = make_mutants(SourceText.parse(opa, "a.rego", rules))
    return {(o.mutant.row, o.mutant.operator): o for o in run.run(mutants, run.baseline(), jobs=2)}


def test_mutants_of_tested_rules_die_and_others_survive(opa_binary):
    outcomes = verdicts(opa_binary)
    assert {o.verdict for (row, _), o in outcomes.items() if row == 3} == {Verdict.KILLED}
    assert {o.verdict for (row, _), o in outcomes.items() if row == 5} == {Verdict.SURVIVED}
    assert outcomes[3, "drop-rule"].killed_by == "data.site_test.test_p"
    assert outcomes[3, "drop-expression"].killed_by == "data.site_test.test_not_p"


def test_a_mutant_that_does_not_compile_is_invalid(opa_binary):
    rules = b"package site\n\np contains x if { some x in input.l; x == 1 }\n"
    tests = b'package site_test\n\ntest_p if data.site.p == {1} with input as {"l": [1, 2]}\n'
    run = run_of(opa_binary, rules, tests)
    mutants = make_mutants(SourceText.parse(opa_binary, "a.rego", rules))
    outcomes = {
        o.mutant.after or o.mutant.before: o.verdict
        for o in run.run(mutants, run.baseline(), jobs=1)
    }
    assert outcomes["some x in input.l"] is Verdict.INVALID
    assert outcomes["x == 1"] is Verdict.KILLED


def test_a_mutant_that_never_ends_is_stopped(opa_binary):
    rules = b"""package site

n := 3

p if {
	n < 4
	count([1 | some i in numbers.range(1, 10); i > 0]) == 10
}

slow if {
	n == 4
	count([1 | some i in numbers.range(1, 100000); some j in numbers.range(1, 100000); i * j == -1]) == 0
}
"""
    tests = b"package site_test\n\ntest_p if { data.site.p; not data.site.slow }\n"
    started = time.monotonic()
    outcomes = verdicts(opa_binary, rules, tests, timeout=0.5)
    assert outcomes[3, "number-up"].verdict is not Verdict.SURVIVED
    assert time.monotonic() - started < 120
    timed_out = {key for key, o in outcomes.items() if o.verdict is Verdict.TIMED_OUT}
    assert (11, "drop-expression") in timed_out


def test_an_opa_that_does_not_stop_is_killed(opa_binary, tmp_path, monkeypatch):
    stubborn = tmp_path / "opa"
    stubborn.write_text("#!/bin/sh\nexec sleep 1000\n")
    stubborn.chmod(0o755)
    run = run_of(type(opa_binary)(stubborn, "1.22.2", "test"), timeout=0.01)
    monkeypatch.setattr("bundles.build.mutation._GRACE", 0.2)
    mutants = make_mutants(SourceText.parse(opa_binary, "a.rego", RULES))[:1]
    (outcome,) = run.run(mutants, Baseline({"data.site_test.test_p": 0.01}, 0.01), jobs=1)
    assert outcome.verdict is Verdict.TIMED_OUT


@pytest.mark.parametrize(
    ("tests", "message"),
    [
        (
            b"package site_test\n\ntest_p if false\n",
            r"^1 of 1 tests fail .*data\.site_test\.test_p",
        ),
        (b"package site_test\n", "^There are no tests"),
        (b"package site_test\n\ntodo_p if false\n", "^There are no tests"),
        (b"package site_test\n\ntest_p if {\n", "^The tests cannot be run: .*a_test.rego"),
        (b"package site_test\n\ntest_p if x\n", "^The tests cannot be run: .*unsafe"),
    ],
)
def test_tests_that_cannot_tell_anything_are_an_error(tests, message, opa_binary):
    with pytest.raises(MutationError, match=message):
        run_of(opa_binary, tests=tests).baseline()


def test_tests_that_never_end_are_an_error(opa_binary):
    slow = b"package site_test\n\ntest_p if count([1 | some i in numbers.range(1, 100000); some j in numbers.range(1, 100000); i * j == -1]) == 0\n"
    with pytest.raises(MutationError, match="test_p"):
        run_of(opa_binary, tests=slow, timeout=0.5).baseline()


def test_stages_hold_every_test_once_the_quickest_first():
    baseline = Baseline({"slow": 8.0, "quick": 0.01, "middle": 0.5, "quicker": 0.001}, 5)
    stages = baseline.stages()
    assert sorted(chain.from_iterable(stages)) == ["middle", "quick", "quicker", "slow"]
    assert stages[0] == ["quicker", "quick"]
    assert stages[-1] == ["slow"]
    assert set(baseline.quick().durations) == {"quicker", "quick", "middle"}


def test_one_test_is_one_stage_and_the_quick_one():
    baseline = Baseline({"only": 1.0}, 5)
    assert baseline.stages() == [["only"]]
    assert set(baseline.quick().durations) == {"only"}


def test_a_package_with_odd_characters_is_run_by_its_name(opa_binary):
    rules = b'package site["my-rules (x)"]\n\np if input.a == 1\n'
    tests = b'package site["my-rules (x)_test"]\n\ntest_p if data.site["my-rules (x)"].p with input as {"a": 1}\n'
    outcomes = verdicts(opa_binary, rules, tests)
    assert outcomes[3, "comparison"].verdict is Verdict.KILLED
    assert outcomes[3, "drop-expression"].verdict is Verdict.SURVIVED


def test_tests_of_one_name_run_together(opa_binary):
    tests = b"""package site_test

test_p if data.site.p with input as {"a": 1}

test_p if not data.site.p with input as {"a": 2}
"""
    outcomes = verdicts(opa_binary, tests=tests)
    # OPA passes them all when one of them holds.
    assert outcomes[3, "comparison"].verdict is Verdict.KILLED
    assert outcomes[3, "comparison"].killed_by == "data.site_test.test_p"
    assert outcomes[3, "drop-expression"].verdict is Verdict.SURVIVED
