"""MCP servers that share through a real `lictor serve`, which is killed, frozen and started again."""

import asyncio
import shutil
import signal
import time
from contextlib import AsyncExitStack

import pytest
from support.replay import seen, turn
from support.waiting import until

from pdp_client import PDP, BearerVerifier, Reason
from pdp_client.shared import Shared

pytestmark = pytest.mark.anyio


class Sharing:
    """`lictor serve`, an OPA, and PDPs that share through the server."""

    def __init__(self, processes, exit_):
        self.run = processes
        self._exit = exit_

    async def start(self):
        self.run.json("user", "add", "ada")
        self.run.start("serve")
        self.run.start("opa")
        self.bystander = self.token()
        self.bounded, self.other = (self.pdp(cache=True) for _ in range(2))
        self.strict = self.pdp(consistency="strict", catch_up=2)

        async def all_allow():
            return all([await self.allows(pdp) for pdp in (self.bounded, self.other, self.strict)])

        await until(all_allow, "all allow", patience=60)

    def token(self):
        return self.run.json("token", "create", "--user=ada", "--tool=*")

    def shared(self, **changes):
        key_file = self.run.state / "newest.key"
        url = self.run.env["LICTOR_BUNDLES_URL"]
        return Shared(url, key_file=key_file, **{"timeout": 2, **changes})

    def pdp(self, **changes):
        folder = self.run.state / "opa"
        pdp = PDP(
            opa_url=f"unix://{folder / 'opa.sock'}",
            opa_token_file=folder / "client.token",
            verifier=BearerVerifier([]),
            shared=self.shared(),
            deadline=5,
            **changes,
        )
        self._exit.push_async_callback(pdp.aclose)
        return pdp

    async def decide(self, pdp, token=None):
        return await pdp.authorize((token or self.bystander)["token"], tool="search")

    async def allows(self, pdp, token=None):
        return (await self.decide(pdp, token)).allow

    async def until_cached(self, pdp, token=None):
        async def cached():
            return (await self.decide(pdp, token)).cached

        await until(cached, "it is cached")

    async def command(self, *arguments):
        process = self.run.begin(*arguments)
        out, err = await asyncio.to_thread(process.communicate, timeout=90)
        assert process.returncode == 0, err
        return out


@pytest.fixture
async def sharing(lictor_processes, state_template, short_path):
    shutil.copytree(state_template, short_path / "state")
    async with AsyncExitStack() as exit_:
        made = Sharing(lictor_processes(), exit_)
        await made.start()
        yield made


async def test_no_cache_allows_what_a_waited_revocation_ended(sharing):
    for _ in range(3):
        token = sharing.token()
        for pdp in (sharing.bounded, sharing.other):
            await sharing.until_cached(pdp, token)
        out = await sharing.command("token", "revoke", token["id"], "--wait")
        assert "effective on 1/1 in " in out, "what is counted is OPAs"
        for pdp in (sharing.bounded, sharing.other, sharing.strict):
            assert (await sharing.decide(pdp, token)).reason is Reason.TOKEN_DEACTIVATED
        assert int(out.split(" in ")[1].split()[0]) < 5000, "far sooner than a lease"


async def test_strict_denies_as_soon_as_the_command_has_returned(sharing):
    for _ in range(3):
        token = sharing.token()
        await until(lambda t=token: sharing.allows(sharing.strict, t), "it is allowed")
        await sharing.command("token", "revoke", token["id"])
        assert (await sharing.decide(sharing.strict, token)).reason is Reason.TOKEN_DEACTIVATED


async def test_frozen_server_ends_caches_within_their_lease(sharing):
    await sharing.until_cached(sharing.bounded)
    serve = sharing.run.running["serve"]
    serve.send_signal(signal.SIGSTOP)
    began = time.monotonic()

    async def queries_opa():
        return not (await sharing.decide(sharing.bounded)).cached

    await until(queries_opa, "OPA is queried")
    assert time.monotonic() - began < 12
    assert await sharing.allows(sharing.bounded), "bounded goes on"
    assert (await sharing.decide(sharing.strict)).reason is Reason.UNAVAILABLE
    serve.send_signal(signal.SIGCONT)
    await sharing.until_cached(sharing.bounded)
    await until(lambda: sharing.allows(sharing.strict), "strict allows again")


async def test_killed_server_is_shared_again_when_it_is_back(sharing):
    token = sharing.token()
    for pdp in (sharing.bounded, sharing.other):
        await sharing.until_cached(pdp, token)
    guard = sharing.shared().replay
    now = time.time()
    guard._clock = lambda: now
    assert not await seen(guard, turn(exp=now + 1))
    sharing.run.stop("serve", signal.SIGKILL)
    decision = await sharing.decide(sharing.strict)
    assert (decision.allow, decision.reason) == (False, Reason.UNAVAILABLE)
    assert await sharing.allows(sharing.bounded)
    sharing.run.start("serve")
    sharing.run.until(lambda: sharing.run.run("status").returncode == 0, "it is back")
    # Caches that polled the process before are waited for, although this one has not heard of them.
    await sharing.command("token", "revoke", token["id"], "--wait")
    for pdp in (sharing.bounded, sharing.other, sharing.strict):
        assert not await sharing.allows(pdp, token)
    assert await sharing.allows(sharing.strict)
    # What was seen before the kill is a replay after it.
    now += 100
    assert await seen(guard, turn(exp=now + 500))
    assert guard.unavailable == 0
    await guard._client.aclose()


async def test_uses_reach_the_registry_also_across_a_kill(sharing):
    token = sharing.token()
    await until(lambda: sharing.allows(sharing.strict, token), "it is allowed")
    for _ in range(4):
        await sharing.decide(sharing.bounded, token)
        await sharing.decide(sharing.other, token)
    await sharing.other.aclose()
    await sharing.bounded.aclose()
    sharing.run.stop("serve", signal.SIGKILL)
    sharing.run.start("serve")

    def used():
        (listed,) = [t for t in sharing.run.json("token", "list") if t["id"] == token["id"]]
        return listed["uses"]

    await sharing.strict.aclose()
    await until(lambda: used() >= 8, "the uses are listed")
    assert used() <= 8 + 1, "none is counted twice"
