"""Six faults of six kinds, for `make test`; the other files run one seed of every fault."""

import asyncio

import pytest

from .rows import SEED, judge
from .run import run

QUICK = [
    "OPA: killed", "OPA: answers 200 with other JSON", "Redis: refuses connections", "live bundle: bit flips",
    "publisher: killed", "decision record: full disk",
]  # fmt: skip


@pytest.mark.quick
@pytest.mark.parametrize("fault", QUICK)
def test_fault_allows_nothing_wrongly_and_heals(opa_binary, fault):
    (result,) = asyncio.run(run([fault], [SEED], brief=True))
    judge(result)
