"""Two `lictor serve` on one registry, one Redis and one store, each with an OPA; any part may die."""

import asyncio
import json
import shutil
import signal
import sqlite3
from contextlib import AsyncExitStack, aclosing, closing

import httpx2
import pytest
from support.deployment import Deployment
from support.waiting import until

from lictor.settings import Settings
from pdp_client import PDP, BearerVerifier, Reason
from pdp_client.shared import Shared
from pdp_client.shared.exceptions import SharedStateUnavailableError

pytestmark = pytest.mark.anyio

SETTINGS = "version: 1\nsettings:\n  staleness_limit: 8\n"
DEAD = {Reason.TOKEN_DEACTIVATED, Reason.STALE_DATA}


class Side:
    """One server, its state directory, its OPA, and a PDP that queries that OPA."""

    def __init__(self, folder, opa_binary, name, settings):
        (folder / name).mkdir()
        state = Settings(state=folder / name / "state", **settings)
        self.run = Deployment(state, opa_binary).processes
        self.opa = f"opa-{name}"

    async def begin(self, exit_):
        exit_.callback(self.run.stop_all)
        self.run.start("serve")
        self.run.start(self.opa)
        token_file = self.run.state / self.opa / "client.token"
        await until(lambda: token_file.exists() and token_file.read_text(), self.opa)
        self._pdp = PDP(
            opa_url=f"unix://{self.run.state / self.opa / 'opa.sock'}",
            opa_token_file=token_file,
            verifier=BearerVerifier([]),
            deadline=5,
        )
        exit_.push_async_callback(self._pdp.aclose)

    async def reason(self, token):
        return (await self._pdp.authorize(token["token"], tool="search")).reason

    async def until_reason(self, token, *reasons):
        async def holds():
            return await self.reason(token) in reasons

        await until(holds, f"{self.opa}: {reasons}", patience=60)

    async def command(self, *arguments):
        """Run to its end; returns the exit code and what was printed."""
        process = self.run.begin(*arguments)
        out, err = await asyncio.to_thread(process.communicate, timeout=90)
        return process.returncode, out, err

    async def status(self):
        return await asyncio.to_thread(self.run.json, "status")

    async def has_role(self, role):
        done = await asyncio.to_thread(self.run.run, "status")
        return f"role: {role}\n" in done.stdout

    async def metrics(self):
        bearer = (self.run.state / "bundles.token").read_text()
        async with httpx2.AsyncClient(base_url=self.run.env["LICTOR_BUNDLES_URL"]) as client:
            answer = await client.get("/metrics", headers={"Authorization": f"Bearer {bearer}"})
        return answer.text


class Prepared:
    """A state directory with a registry in it, and the tokens that are in that."""

    def __init__(self, folder, opa_binary):
        self.run = Deployment(Settings(state=folder / "state"), opa_binary).processes
        self.run.json("init")
        (folder / "settings.yaml").write_text(SETTINGS)
        self.run.json("registry", "import", str(folder / "settings.yaml"))
        self.run.json("user", "add", "ada")
        self.tokens = [self.run.json("token", "create", "--user=ada", "--tool=*") for _ in range(3)]
        self.run.json("policies", "build", "--sign")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory, opa_binary):
    return Prepared(tmp_path_factory.mktemp("prepared"), opa_binary)


class Two:
    """Both sides; `publishing` and `following` are set by `roles`."""

    def __init__(self, folder, opa_binary, redis, prepared):
        self.redis = redis
        self._prepared = prepared
        *self.tokens, self.bystander = prepared.tokens
        self._registry = folder / "registry.db"
        shared = {
            "registry": f"sqlite:///{self._registry}",
            "redis_url": redis.url,
            "artefacts_url": (folder / "artefacts").as_uri(),
        }
        self.sides = [Side(folder, opa_binary, name, shared) for name in ("a", "b")]

    async def begin(self, exit_):
        for side in self.sides:
            shutil.copytree(self._prepared.run.state, side.run.state)
        shutil.copy(self._prepared.run.state / "registry.db", self._registry)
        with self.redis.client() as client:
            # As a Redis that has run for a while: no server waits for a lease that may have been lost.
            client.set("{lictor}:run", client.info("server")["run_id"])
        for side in self.sides:
            await side.begin(exit_)
        for side in self.sides:
            await side.until_reason(self.bystander, Reason.OK)
        await self.roles()

    async def roles(self):
        async def have_roles():
            for side, other in (self.sides, self.sides[::-1]):
                if await side.has_role("publishing") and await other.has_role("following"):
                    self.publishing, self.following = side, other
                    return True
            return False

        await until(have_roles, "one publishes, the other follows", patience=30)

    async def written(self, token):
        """Wait until a revocation is in the registry: what is killed now is in the middle of it."""
        with closing(sqlite3.connect(self._registry)) as db:

            def revoked():
                rows = db.execute("SELECT active FROM tokens WHERE label = ?", (token["id"],))
                return rows.fetchone() == (0,)

            latest = asyncio.get_running_loop().time() + 30
            while not revoked():
                assert asyncio.get_running_loop().time() < latest
                await asyncio.sleep(0)

    async def until_revoked(self, side, token):
        """As an operator does: the same command again, until it exits with 0."""

        async def done():
            return (await side.command("token", "revoke", token["id"]))[0] == 0

        await until(done, "the revocation is published", patience=40)

    async def nobody_allows(self, token):
        for side in self.sides:
            for _ in range(20):
                assert await side.reason(token) in DEAD


@pytest.fixture
async def two(short_path, opa_binary, redis_process, prepared):
    redis_process.must_be_ours()
    async with AsyncExitStack() as exit_:
        two = Two(short_path, opa_binary, redis_process, prepared)
        await two.begin(exit_)
        yield two


async def test_each_of_several_servers_refuses_to_be_what_instances_share(two):
    for side in two.sides:
        url = side.run.env["LICTOR_BUNDLES_URL"]
        async with aclosing(Shared(url, key_file=side.run.state / "newest.key")) as shared:
            with pytest.raises(SharedStateUnavailableError, match="LICTOR_REDIS_URL"):
                await shared.newest.read()
    key_file = two.following.run.state / "newest.key"
    async with aclosing(Shared(two.redis.url, key_file=key_file, timeout=5)) as shared:
        assert (await shared.newest.read()).revision > 0


async def test_odd_report_ends_no_server_and_steers_no_terminal(two):
    side = two.following
    # Not an OPA's own name: its next report would take the odd one's place.
    token = (await asyncio.to_thread(side.run.json, "instance", "token", "odd"))["bearer"]
    odd = {
        "labels": {"instance": "odd", "version": "\ud800\x1b[2J"},
        "bundles": {"\x1b]0;x\x07": {"message": "\x1b[31m\ud800"}},
    }
    async with httpx2.AsyncClient(base_url=side.run.env["LICTOR_BUNDLES_URL"]) as client:
        headers = {"Authorization": f"Bearer {token}"}
        for _ in range(3):
            answer = await client.post("/status", content=json.dumps(odd), headers=headers)
            assert answer.status_code == 204

    async def everywhere():
        printed = [(await each.status())["instances"] for each in two.sides]
        return all(any(one["id"] == "odd" and one["errors"] for one in of) for of in printed)

    await until(everywhere, "both servers show the report", patience=30)
    for each in two.sides:
        printed = await asyncio.to_thread(each.run.run, "status")
        assert printed.returncode == 0
        assert "\x1b" not in printed.stdout + printed.stderr
    await two.roles()


NAMES = (
    "lease", "fence", "run", "forgotten", "published", "reports", "wakes", "newest", "caching",
    "alone", "usage:count", "usage:last",
)  # fmt: skip
"""Every key that the servers share in Redis."""
ODD = {
    "bytes": lambda pipeline, key: pipeline.set(key, b"\xff\xed\xa0\x80\x1b[2J\0"),
    "number": lambda pipeline, key: pipeline.set(key, str(2**63 - 1)),
    "JSON": lambda pipeline, key: pipeline.set(key, '{"v": NaN, "\\ud800": [[[1e999]]]}'),
    "list": lambda pipeline, key: pipeline.rpush(key, b"\xff", "x"),
    "hash": lambda pipeline, key: pipeline.hset(key, mapping={b"\xff": b"\xff", "opa-a": "[]"}),
    "sorted set": lambda pipeline, key: pipeline.zadd(key, {b"\xff": float("inf"), "x": -1}),
}


@pytest.mark.parametrize("kind", ODD)
async def test_odd_values_in_redis_end_no_server(two, kind):
    token = two.tokens[0]
    with two.redis.client() as client:
        for _ in range(5):
            with client.pipeline() as pipeline:
                for name in NAMES:
                    pipeline.delete(f"{{lictor}}:{name}")
                    ODD[kind](pipeline, f"{{lictor}}:{name}")
                pipeline.publish("{lictor}:news", b"\xff\x1b[2J")
                pipeline.execute()
            for side in two.sides:
                printed = await asyncio.to_thread(side.run.run, "status")
                assert "Traceback" not in printed.stderr
                assert "\x1b" not in printed.stdout + printed.stderr
        client.delete(*(f"{{lictor}}:{name}" for name in NAMES))
        client.set("{lictor}:run", client.info("server")["run_id"])
    await two.roles()
    await two.until_revoked(two.following, token)
    await two.nobody_allows(token)
    for side in two.sides:
        assert side.run.running["serve"].poll() is None
        await side.until_reason(two.bystander, Reason.OK)


async def test_revocation_on_either_server_reaches_both(two):
    for side, token in zip((two.publishing, two.following), two.tokens, strict=True):
        code, out, err = await side.command("token", "revoke", token["id"], "--wait=20")
        assert code == 0, err
        assert "effective on 2/2 in " in out
        assert "limit" not in out
        await two.nobody_allows(token)

    for side, role in ((two.publishing, "publishing"), (two.following, "following")):
        status = await side.status()
        assert status["problems"] == []
        assert status["role"] == role
        assert status["publisher"].endswith(str(two.publishing.run.state))
        assert len(status["servers"]) == 1
        assert [(one["id"], one["behind"]) for one in status["instances"]] == [
            ("opa-a", 0), ("opa-b", 0),
        ]  # fmt: skip
        assert f"lictor_publishing {float(role == 'publishing')}" in await side.metrics()
    code, _, err = await two.following.command("registry", "accept")
    assert code == 1
    assert str(two.publishing.run.state) in err

    assert two.publishing.run.stop("serve") == 0
    await until(lambda: two.following.has_role("publishing"), "the other one goes on")


async def test_revocation_survives_the_leader_killed_during_it(two):
    (token, _), (died, other) = two.tokens, (two.publishing, two.following)
    command = other.run.begin("token", "revoke", token["id"])
    await two.written(token)
    died.run.stop("serve", signal.SIGKILL)
    await asyncio.to_thread(command.communicate, timeout=60)

    await two.until_revoked(other, token)

    await other.until_reason(token, Reason.TOKEN_DEACTIVATED)
    await died.until_reason(token, *DEAD)
    await two.nobody_allows(token)
    assert await other.reason(two.bystander) is Reason.OK
    died.run.start("serve")
    await died.until_reason(token, Reason.TOKEN_DEACTIVATED)
    assert (await died.status())["role"] == "following"


async def test_leader_frozen_until_a_takeover_does_not_interfere(two):
    (token, _), (frozen, other) = two.tokens, (two.publishing, two.following)
    process = frozen.run.running["serve"]
    # An OPA that has not been seen for the limit does not count, and another publishes only after six seconds.
    longer = frozen.run.state / "longer.yaml"
    longer.write_text(SETTINGS.replace("8", "25"))
    code, _, err = await frozen.command("registry", "import", str(longer))
    assert code == 0, err
    process.send_signal(signal.SIGSTOP)
    try:
        await until(lambda: other.has_role("publishing"), "the other one publishes")
        code, out, err = await other.command("token", "revoke", token["id"], "--wait=60")
    finally:
        process.send_signal(signal.SIGCONT)

    # The frozen server's OPA could not get it: the limit has passed.
    assert code == 0, err
    assert "effective on 1/2 in " in out
    assert "by the staleness limit" in out
    await two.nobody_allows(token)
    reasons = set()

    async def caught_up():
        reasons.add(await frozen.reason(token))
        return Reason.TOKEN_DEACTIVATED in reasons

    await until(caught_up, "its OPA has it")
    assert reasons <= DEAD
    await until(lambda: frozen.has_role("following"), "it follows")
    assert (await other.status())["role"] == "publishing"
    assert (await frozen.status())["revision"] == (await other.status())["revision"]


async def test_servers_without_redis_publish_nothing_and_go_stale(two):
    token, later = two.tokens
    two.redis.kill()
    await two.following.command("token", "revoke", token["id"])
    for side in two.sides:
        await side.until_reason(token, *DEAD)
        await side.until_reason(two.bystander, Reason.STALE_DATA)
        assert await side.has_role("following")
        problems = (await side.status())["problems"]
        assert any(line.startswith("lease: ") for line in problems)
        assert not any("127.0.0.1" in line for line in problems)

    two.redis.start()

    await two.roles()
    for side in two.sides:
        await side.until_reason(two.bystander, Reason.OK)
        await side.until_reason(token, Reason.TOKEN_DEACTIVATED)
    await two.until_revoked(two.following, later)
    await two.nobody_allows(later)
