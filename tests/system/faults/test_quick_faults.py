"""Six faults of six kinds, for `make test`; the other files run one seed of every fault."""

import asyncio

import pytest

from .judging import DEPLOYMENTS, SEED, judge
from .run import run

QUICK = [
    "OPA: killed", "OPA: answers 200 with other JSON", "Redis: refuses connections", "live bundle: bit flips",
    "publisher: killed", "decision record: full disk",
]  # fmt: skip


@pytest.mark.quick
def test_six_faults_allow_nothing_wrongly_and_heal(opa_binary):
    # One test, so that one worker runs all of them in deployments that are started once.
    results = asyncio.run(run(QUICK, [SEED], deployments=DEPLOYMENTS, brief=True))
    assert sorted(result.fault for result in results) == sorted(QUICK)
    for result in sorted(results, key=lambda result: bool(result.skipped)):
        judge(result)
