"""Each part is killed once in the middle of a revocation; afterwards no OPA allows the token."""

import asyncio
import json
import signal
import sqlite3
from contextlib import AsyncExitStack, closing

import pytest
from support.waiting import until

from bundles.fleet.receipt import verify
from pdp_client import PDP, BearerVerifier, Reason

pytestmark = pytest.mark.anyio

OPAS = ("opa-1", "opa-2")
SETTINGS = "version: 1\nsettings:\n  staleness_limit: 8\n"


class Everything:
    """`lictor serve`, two OPAs, and a PDP for each."""

    def __init__(self, processes, exit_):
        self.run = processes
        self.state = processes.state
        self._exit = exit_

    async def start(self):
        self.run.json("init")
        settings = self.run.folder / "settings.yaml"
        settings.write_text(SETTINGS)
        self.run.json("registry", "import", str(settings))
        self.run.json("user", "add", "ada")
        self.token = self.run.json("token", "create", "--user=ada", "--tool=*")
        self.bystander = self.run.json("token", "create", "--user=ada", "--tool=*")
        self.run.start("serve")
        self.pdps = {}
        for name in OPAS:
            self.run.start(name)
        for name in OPAS:
            token = self.state / name / "client.token"
            await until(lambda token=token: token.exists() and token.read_text(), name)
            pdp = PDP(
                opa_url=f"unix://{self.state / name / 'opa.sock'}",
                opa_token_file=token,
                verifier=BearerVerifier([]),
                deadline=5,
            )
            self._exit.push_async_callback(pdp.aclose)
            self.pdps[name] = pdp
            await self.until_allowed(name)

    async def reason(self, name, token=None):
        bearer = (token or self.token)["token"]
        return (await self.pdps[name].authorize(bearer, tool="search")).reason

    async def until_allowed(self, name):
        async def allowed():
            return await self.reason(name, self.bystander) is Reason.OK

        await until(allowed, f"{name} allows the other token", patience=60)

    async def written(self):
        """Wait until the revocation is in the registry: what is killed now is in the middle of it."""
        with closing(sqlite3.connect(self.state / "registry.db")) as db:

            def revoked():
                rows = db.execute("SELECT active FROM tokens WHERE label = ?", (self.token["id"],))
                return rows.fetchone() == (0,)

            latest = asyncio.get_running_loop().time() + 30
            while not revoked():
                assert asyncio.get_running_loop().time() < latest
                await asyncio.sleep(0)

    def revoke(self, *flags):
        return self.run.begin("token", "revoke", self.token["id"], "--wait=60", *flags)

    async def finished(self, command):
        out, err = await asyncio.to_thread(command.communicate, timeout=90)
        return command.returncode, out, err

    async def until_revoked(self):
        """As an operator does: the same command again, until it exits with 0."""

        async def done():
            return (await self.finished(self.revoke()))[0] == 0

        await until(done, "the revocation holds", patience=60)

    async def nobody_allows_it(self):
        for name in OPAS:
            for _ in range(20):
                assert await self.reason(name) in {Reason.TOKEN_DEACTIVATED, Reason.STALE_DATA}
            await self.until_allowed(name)
            assert await self.reason(name) is Reason.TOKEN_DEACTIVATED


@pytest.fixture
async def everything(lictor_processes):
    async with AsyncExitStack() as exit_:
        everything = Everything(lictor_processes(), exit_)
        await everything.start()
        yield everything


async def test_revocation_without_a_kill_is_acknowledged_and_proved(everything):
    receipt = everything.run.folder / "r.receipt"
    code, out, err = await everything.finished(everything.revoke(f"--receipt={receipt}"))
    assert code == 0, err
    assert "effective on 2/2 in " in out
    assert "limit" not in out
    await everything.nobody_allows_it()
    key = (everything.state / "bundle-keys" / "data.pub.pem").read_text()
    claims = verify(json.loads(receipt.read_text())["receipt"], key)
    assert claims["entry"]["action"] == "token revoke"
    assert claims["effect"]["acknowledged"].keys() == set(OPAS)
    assert receipt.stat().st_mode & 0o777 == 0o600
    status = everything.run.json("status")
    assert [(one["id"], one["behind"]) for one in status["instances"]] == [
        ("opa-1", 0),
        ("opa-2", 0),
    ]
    assert status["problems"] == []


async def test_command_is_killed(everything):
    command = everything.revoke()
    await everything.written()
    command.kill()
    await everything.finished(command)
    await everything.until_revoked()
    await everything.nobody_allows_it()


async def test_lictor_serve_is_killed(everything):
    command = everything.revoke()
    await everything.written()
    everything.run.stop("serve", signal.SIGKILL)
    await everything.finished(command)
    everything.run.start("serve")
    await everything.until_revoked()
    await everything.nobody_allows_it()


async def test_revocation_survives_an_opa_killed_and_restarted(everything):
    command = everything.revoke()
    await everything.written()
    everything.run.stop("opa-2", signal.SIGKILL)
    everything.run.start("opa-2")
    code, out, err = await everything.finished(command)
    assert code == 0, err
    assert "effective on " in out
    await everything.until_allowed("opa-2")
    await everything.nobody_allows_it()


async def test_opa_that_is_cut_off_allows_nothing_after_the_command(everything):
    # It runs on, frozen: it has what it had, and hears of nothing.
    process = everything.run.running["opa-2"]
    process.send_signal(signal.SIGSTOP)
    code, out, err = await everything.finished(everything.revoke())
    process.send_signal(signal.SIGCONT)
    assert code == 0, err
    assert "effective on 1/2 in " in out
    assert "by the staleness limit" in out
    # From its first answer on.
    assert await everything.reason("opa-2") in {Reason.STALE_DATA, Reason.TOKEN_DEACTIVATED}
    await everything.until_allowed("opa-2")
    await everything.nobody_allows_it()


@pytest.mark.parametrize("roster", ["kept", "gone"])
async def test_lictor_serve_is_killed_while_an_opa_is_cut_off(everything, roster):
    # The one that comes back must not pass for all that there are.
    process = everything.run.running["opa-2"]
    process.send_signal(signal.SIGSTOP)
    everything.run.stop("serve", signal.SIGKILL)
    if roster == "gone":
        (everything.state / "bundles" / "fleet.json").unlink()
    everything.run.start("serve")
    everything.run.until(
        lambda: everything.run.run("status").returncode == 0, "lictor serve answers again"
    )
    code, out, err = await everything.finished(everything.revoke())
    process.send_signal(signal.SIGCONT)
    assert code == 0, err
    if roster == "kept":
        assert "effective on 1/2 in " in out
        assert "by the staleness limit" in out
    # From its first answer on.
    assert await everything.reason("opa-2") in {Reason.STALE_DATA, Reason.TOKEN_DEACTIVATED}
    await everything.until_allowed("opa-2")
    await everything.nobody_allows_it()


async def test_everything_is_killed(everything):
    command = everything.revoke()
    await everything.written()
    for name in ("serve", *OPAS):
        everything.run.stop(name, signal.SIGKILL)
    command.kill()
    await everything.finished(command)
    # OPA starts from what it has kept, in which the token is good; it must not say so for long.
    for name in OPAS:
        everything.run.start(name)

    async def stale():
        return {await everything.reason(name) for name in OPAS} == {Reason.STALE_DATA}

    await until(stale, "what was kept is too old to answer from", patience=60)
    everything.run.start("serve")
    await everything.until_revoked()
    await everything.nobody_allows_it()
