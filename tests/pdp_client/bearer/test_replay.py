import pytest
from support.clock import ManualClock
from support.replay import EXP, seen, turn

from pdp_client.bearer.replay import ReplayGuard, ReplayMemory
from pdp_client.bearer.verifier import Credential


@pytest.fixture
def clock():
    return ManualClock(EXP - 1_000.0)


@pytest.fixture
def guard(clock) -> ReplayGuard:
    return ReplayMemory(leeway=30, clock=clock)


pytestmark = pytest.mark.anyio


async def test_replay_same_exp_is_accepted_repeatedly(guard, clock):
    for clock.now in (EXP - 1_000, EXP - 500, EXP + 29.9):
        assert not await seen(guard, turn())


async def test_later_exp_is_let_through_until_the_first_is_over(guard, clock):
    assert not await seen(guard, turn())
    clock.now = EXP + 29.9
    assert not await seen(guard, turn(exp=EXP + 500))


async def test_replay_later_exp_is_refused_after_the_first_has_expired(guard, clock):
    assert not await seen(guard, turn())
    clock.now = EXP + 30
    assert await seen(guard, turn(exp=EXP + 500))
    assert await seen(guard, turn(exp=EXP + 900))


async def test_replay_early_use_of_a_later_exp_keeps_the_first(guard, clock):
    assert not await seen(guard, turn())
    assert not await seen(guard, turn(exp=EXP + 500))
    clock.now = EXP + 30
    assert await seen(guard, turn(exp=EXP + 500))


async def test_replay_earlier_or_equal_exp_is_accepted(guard, clock):
    assert not await seen(guard, turn())
    clock.now = EXP + 30
    assert not await seen(guard, turn(exp=EXP))
    assert not await seen(guard, turn(exp=EXP - 1))


async def test_replay_entry_lives_an_hour_past_its_exp(guard, clock):
    assert not await seen(guard, turn())
    clock.now = EXP + 3599.9
    assert await seen(guard, turn(exp=EXP + 8_999))
    clock.now = EXP + 3600
    assert not await seen(guard, turn(exp=EXP + 8_999))


@pytest.mark.parametrize("other", [{"jti": "j2"}, {"iss": "someone"}])
async def test_replay_other_jti_or_issuer_is_another_token(other, guard, clock):
    assert not await seen(guard, turn())
    clock.now = EXP + 30
    assert not await seen(guard, turn(exp=EXP + 500, **other))


async def test_replay_key_separates_issuer_and_jti(guard, clock):
    assert not await seen(guard, turn(iss="ab", jti="c"))
    clock.now = EXP + 30
    assert not await seen(guard, turn(iss="a", jti="bc", exp=EXP + 500))


async def test_team_jwts_and_opaque_tokens_pass_unseen(guard, clock):
    team = {"iss": "mnemosyne", "typ": "team"}
    assert not await seen(guard, turn(**team))
    assert not await seen(guard, Credential(kind="token", digest="0" * 64))
    clock.now = EXP + 30
    assert not await seen(guard, turn(exp=EXP + 500, **team))
    assert not guard._first_exp


async def test_replay_memory_is_bounded_and_evicts_the_earliest(clock):
    guard = ReplayMemory(max_entries=3, clock=clock)
    for number in range(10):
        await guard.check(turn(jti=f"j{number}", exp=EXP + number))
        assert len(guard._first_exp) == len(guard._due) <= 3
    clock.now = EXP + 100
    assert not await seen(guard, turn(jti="j0", exp=EXP + 500))
    assert await seen(guard, turn(jti="j9", exp=EXP + 500))


async def test_replay_expired_entries_are_removed(guard, clock):
    for number in range(100):
        await guard.check(turn(jti=f"j{number}"))
    clock.now = EXP + 3600
    await guard.check(turn(jti="new", exp=clock.now + 60))
    assert len(guard._first_exp) == len(guard._due) == 1


async def test_replay_accepts_all_that_the_verifier_accepts(
    verifier, guard, turn_signer, turn_claims
):
    credential = verifier.verify(turn_signer.token(turn_claims))
    assert credential.is_per_turn
    assert not await seen(guard, credential)
