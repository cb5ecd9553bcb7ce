"""A jti that one instance has seen is known to all; without shared state no caller waits or is refused."""

import asyncio
import logging
import subprocess
import sys
import time

import pytest
from support.clock import ManualClock
from support.replay import EXP, seen, turn
from support.waiting import until

from lictor_common.redis import key
from pdp_client.bearer.replay import ReplayGuard
from pdp_client.bearer.verifier import Credential
from pdp_client.shared.connection import connect
from pdp_client.shared.replay import SharedReplay

pytestmark = pytest.mark.anyio

LATER = EXP + 500
REDIS_ONLY = pytest.mark.parametrize("through", ["redis"], indirect=True)


@pytest.fixture
def clock():
    return ManualClock(EXP - 100.0)


@pytest.fixture
def new_guard(new_shared, clock):
    """Another instance's guard, whose clock alone says what time it is to it."""

    def new(**changes) -> ReplayGuard:
        guard = new_shared(leeway=changes.pop("leeway", 30)).replay
        guard._clock = changes.pop("clock", clock)
        assert not changes
        return guard

    return new


async def _asked(guard):
    before = guard.unavailable
    await guard.check(turn())
    return guard.unavailable == before


def keys_in(server, namespace):
    with server.client() as client:
        return [name.decode() for name in client.keys(f"{{{namespace}}}:*")]


async def test_token_seen_by_one_instance_is_a_replay_at_another(new_guard, clock):
    here, there = new_guard(), new_guard()
    assert not await seen(here, turn())
    clock.now = EXP + 29.9
    assert not await seen(there, turn(exp=LATER))
    clock.now = EXP + 30
    assert await seen(there, turn(exp=LATER))
    assert await seen(here, turn(exp=LATER + 100))
    assert here.unavailable == there.unavailable == 0


async def test_shared_replay_same_token_is_accepted_everywhere(new_guard, clock):
    guards = [new_guard(), new_guard()]
    for clock.now in (EXP - 500, EXP, EXP + 29.9):
        for guard in guards:
            assert not await seen(guard, turn())
    clock.now = EXP + 30
    assert not await seen(guards[0], turn(exp=EXP - 1))


async def test_leeway_is_the_verifier_s(new_guard, clock):
    guard = new_guard(leeway=5)
    assert not await seen(guard, turn(exp=EXP + 0.5))
    clock.now = EXP + 5.4
    assert not await seen(guard, turn(exp=LATER))
    clock.now = EXP + 5.5
    assert await seen(guard, turn(exp=LATER))


@pytest.mark.parametrize("other", [{"jti": "j2"}, {"iss": "someone"}])
async def test_replay_other_jti_or_issuer_is_another_token(other, new_guard, clock):
    guard = new_guard()
    assert not await seen(guard, turn())
    clock.now = EXP + 30
    assert not await seen(guard, turn(exp=LATER, **other))


async def test_replay_key_separates_issuer_and_jti(new_guard, clock):
    guard = new_guard()
    assert not await seen(guard, turn(iss="ab", jti="c"))
    clock.now = EXP + 30
    assert not await seen(guard, turn(iss="a", jti="bc", exp=LATER))


@REDIS_ONLY
async def test_team_jwts_and_opaque_tokens_leave_no_trace(new_guard, server, namespace):
    guard = new_guard()
    assert not await seen(guard, turn(iss="mnemosyne", typ="team"))
    assert not await seen(guard, Credential(kind="token", digest="0" * 64))
    assert keys_in(server, namespace) == []


@REDIS_ONLY
async def test_shared_replay_key_is_short_and_holds_no_caller_input(new_guard, server, namespace):
    guard = new_guard()
    await guard.check(turn(jti="s3cret" * 1000))
    await guard.check(turn(jti="} \r\n*"))
    names = keys_in(server, namespace)
    assert len(names) == 2
    for name in names:
        assert len(name) == len(key(namespace, "jti:")) + 64
        assert "s3cret" not in name


@REDIS_ONLY
async def test_shared_replay_entry_expires_an_hour_after_the_first_exp(
    new_guard, server, namespace, clock
):
    # By our clock: Redis, on the machine's, has long passed or not yet reached that moment.
    guard = new_guard()
    await guard.check(turn())
    clock.now += 60
    await guard.check(turn(exp=LATER))
    with server.client() as client:
        left = client.pttl(keys_in(server, namespace)[0]) / 1000
    assert 3700 - 30 < left <= 3700


FIRST = """
import asyncio, sys
from pdp_client.shared import Shared
from pdp_client.bearer.verifier import Credential

async def main(url, key_file, namespace, exp):
    shared = Shared(url, key_file=key_file, namespace=namespace, timeout=5)
    guard = shared.replay
    claims = {"iss": "daedalus", "sub": "u", "jti": "connects", "exp": float(exp)}
    await guard.check(Credential(kind="jwt", kid="k1", claims=claims))
    print("ready", flush=True)
    sys.stdin.readline()
    for number in range(200):
        claims = {"iss": "daedalus", "sub": "u", "jti": str(number), "exp": float(exp)}
        await guard.check(Credential(kind="jwt", kid="k1", claims=claims))
    assert guard.unavailable == 0
    await shared.aclose()

asyncio.run(main(*sys.argv[1:]))
"""


async def test_shared_replay_concurrent_processes_agree_on_the_first(
    source, share_options, new_guard, clock
):
    now = time.time()
    exps = [now + 100, now + 5000]
    both = [
        await asyncio.create_subprocess_exec(
            sys.executable, "-c", FIRST, source.url, *share_options.values(), repr(exp),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )
        for exp in exps
    ]  # fmt: skip
    for process in both:
        assert await process.stdout.readline() == b"ready\n"
    for process in both:
        process.stdin.write(b"\n")
    for process in both:
        await process.communicate()
        assert process.returncode == 0
    guards = [new_guard(), new_guard()]
    clock.now = now + 200
    reported = [
        [await seen(guard, turn(jti=str(n), exp=exps[1])) for n in range(200)] for guard in guards
    ]
    assert reported[0] == reported[1]


async def test_shared_replay_source_killed_accepts_and_counts(source, new_guard, clock, caplog):
    source.must_be_ours()
    guard = new_guard()
    await guard.check(turn())
    clock.now = EXP + 30
    source.freeze()
    checking = asyncio.ensure_future(seen(guard, turn(exp=LATER)))
    await asyncio.sleep(0.05)
    assert not checking.done(), "it has asked"
    source.kill()
    assert await checking is False
    assert guard.unavailable == 1
    assert not await seen(guard, turn(exp=LATER))
    assert guard.unavailable == 2
    lines = [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]
    assert len(lines) == 1, "once a minute is enough"
    assert "_unavailable detail=" in lines[0]
    assert source.url not in caplog.text


async def test_shared_replay_frozen_redis_costs_a_tenth_of_a_second(server, connected, clock):
    server.must_be_ours()
    guard = SharedReplay(connected(timeout=5), timeout=0.1, clock=clock)
    await until(lambda: _asked(guard), "it is connected, on a slow machine too")
    missed = guard.unavailable
    server.freeze()
    began = time.monotonic()
    for _ in range(3):
        assert not await seen(guard, turn(exp=LATER))
    took = time.monotonic() - began
    server.thaw()
    assert guard.unavailable == missed + 3
    assert took < 3 * 0.5, "each less than the deadline of a decision"
    clock.now = EXP + 30
    await until(lambda: seen(guard, turn(exp=LATER)), "it answers again")


async def test_shared_replay_unreachable_redis_accepts(clock):
    async with connect("redis://127.0.0.1:1/0") as redis:
        guard = SharedReplay(redis, clock=clock)
        assert not await seen(guard, turn())
        assert guard.unavailable == 1


@REDIS_ONLY
@pytest.mark.parametrize(
    "garbage",
    [b"", b"soon", b"\xff\xfe", b"nan", b"inf", b"-1", b"1e999", b"\0" * 5000, ["a list"]],
)
async def test_shared_replay_malformed_key_refuses_no_caller(
    garbage, new_guard, server, namespace, clock
):
    guard = new_guard()
    await guard.check(turn())
    (name,) = keys_in(server, namespace)
    with server.client() as client:
        if isinstance(garbage, list):
            client.delete(name)
            client.lpush(name, *garbage)
        else:
            client.set(name, garbage)
    clock.now = EXP + 30
    assert not await seen(guard, turn(exp=LATER))
    assert guard.unavailable == 1


@REDIS_ONLY
async def test_restart_forgets_and_starts_anew(server, new_guard, clock):
    server.must_be_ours()
    guard = new_guard()
    await guard.check(turn())
    server.kill()
    server.start()
    clock.now = EXP + 30
    assert not await seen(guard, turn(exp=LATER))
    assert guard.unavailable == 0
    clock.now = LATER + 30
    assert await seen(guard, turn(exp=LATER + 500))


async def test_check_that_is_cancelled_stays_cancelled(source, new_guard):
    source.must_be_ours()
    guard = new_guard()
    source.freeze()
    try:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await guard.check(turn())
    finally:
        source.thaw()
    assert guard.unavailable == 0


async def test_replay_accepts_all_that_the_verifier_accepts(
    verifier, new_guard, turn_signer, turn_claims, now
):
    guard = new_guard(clock=lambda: now)
    credential = verifier.verify(turn_signer.token(turn_claims))
    assert not await seen(guard, credential)
    assert guard.unavailable == 0
