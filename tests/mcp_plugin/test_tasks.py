"""Tools that a worker runs later: with a decision of its own, in FastMCP's own tasks extension."""

import asyncio
import json
from contextlib import asynccontextmanager

import pytest
from fastmcp import FastMCP
from prometheus_client import CollectorRegistry
from support.waiting import until

from mcp_plugin import AllowedLibraries, BearerAuth, PolicyMiddleware, current_decision
from pdp_client import ConfigurationError, FileRecord
from pdp_client.bearer.opaque import digest

from .conftest import serving

fastmcp_tasks = pytest.importorskip("fastmcp_tasks", reason="no fastmcp-tasks for this FastMCP")

from fastmcp_tasks.client import call_tool_task  # noqa: E402 - it may not be there

from mcp_plugin.tasks import PolicyTasks  # noqa: E402

TasksExtension = fastmcp_tasks.TasksExtension
OF_A_TASK = ("tasks/get", "tasks/cancel")
pytestmark = pytest.mark.anyio


class TaskServer:
    """A server with tools that a worker runs when it is let."""

    def __init__(self):
        self.mcp = FastMCP("shop")
        self.ran = []
        self.cancelled = False
        self.held, self.go = asyncio.Event(), asyncio.Event()

        @self.mcp.tool(task=True)
        async def index(query: str, libraries: list[str] = AllowedLibraries()) -> str:
            self.ran.append(query)
            return f"{query} in {libraries}"

        @self.mcp.tool(task=True)
        async def sweep() -> str:
            decision = current_decision()
            self.ran.append("sweep")
            return f"swept by {decision.principal if decision else None}"

        @self.mcp.tool(task=True)
        async def hold() -> str:
            """Keeps the only worker busy."""
            self.held.set()
            try:
                await self.go.wait()
            except asyncio.CancelledError:
                self.cancelled = True
                raise
            return "held"


@pytest.fixture
async def open_shop():
    """A shop with FastMCP's extension, and no policy."""
    shop = TaskServer()
    shop.mcp.add_extension(TasksExtension(url="memory://open", concurrency=1))
    async with serving(shop.mcp) as served:
        yield shop, served


@asynccontextmanager
async def guarded(pdp, **settings):
    shop = TaskServer()
    policy = PolicyMiddleware(pdp, registry=CollectorRegistry())
    shop.mcp.add_middleware(policy)
    shop.mcp.auth = BearerAuth(policy, base_url="http://127.0.0.1:9")
    name = f"memory://guarded-{id(shop)}"
    shop.mcp.add_extension(PolicyTasks(policy, url=name, concurrency=1, **settings))
    async with serving(shop.mcp) as served:
        try:
            yield shop, served
        finally:
            shop.go.set()  # a worker is waited for


async def result_of(task):
    """The text that a task ends with, or how it fails."""
    try:
        return (await task.result()).content[0].text
    except Exception as error:  # noqa: BLE001 - which one is FastMCP's affair
        return f"failed: {error}"


async def test_task_runs_with_its_callers_libraries(grants, plain_pdp):
    ada = grants.token("*", libraries=["poe"])
    eve = grants.token("*", libraries=["darwin"])
    grants.lay()
    async with (
        guarded(plain_pdp) as (_, served),
        served.client(ada) as first,
        served.client(eve) as second,
    ):
        tasks = [await call_tool_task(c, "index", {"query": "x"}) for c in (first, second) * 5]
        results = [await result_of(task) for task in tasks]
        swept = await result_of(await call_tool_task(first, "sweep", {}))

    assert results == ["x in ['poe']", "x in ['darwin']"] * 5
    assert swept.startswith("swept by mcptoken:")


async def test_task_revoked_meanwhile_does_not_run(grants, plain_pdp, open_shop):
    bearer, other = grants.token("*", libraries=["poe"]), grants.token("*")
    grants.lay()

    async def queued_then_revoked(shop, served, revoke):
        async with served.client(other) as keeper, served.client(bearer) as client:
            holding = await call_tool_task(keeper, "hold", {})
            await shop.held.wait()
            waiting = await call_tool_task(client, "sweep", {})
            revoke()
            shop.go.set()
            assert await result_of(holding) == "held"
            # It comes after in the one worker's queue; when it is over, the first is too.
            assert (await result_of(await call_tool_task(keeper, "sweep", {}))).startswith("swept")
        return waiting

    await queued_then_revoked(*open_shop, lambda: None)
    assert open_shop[0].ran == ["sweep", "sweep"]
    async with guarded(plain_pdp) as (shop, served):
        await queued_then_revoked(shop, served, lambda: grants.revoke(bearer))
        assert shop.ran == ["sweep"]


async def test_running_task_is_cancelled_when_its_callers_access_ends(grants, plain_pdp):
    bearer, other = grants.token("*"), grants.token("*")
    grants.lay()
    async with (
        guarded(plain_pdp) as (shop, served),
        served.client(bearer) as mine,
        served.client(other) as theirs,
    ):
        task = await call_tool_task(mine, "hold", {})
        await asyncio.wait_for(shop.held.wait(), 30)
        grants.revoke(bearer)
        await until(lambda: shop.cancelled, "the worker is cancelled")
        assert "secret" not in await result_of(task)
        # The worker goes on with others' tasks.
        assert "swept by" in await result_of(await call_tool_task(theirs, "sweep", {}))


async def test_task_is_decided_twice_and_recorded_twice(deployment, tmp_path):
    await deployment.add_user("ada")
    await deployment.add_library("poe", "books")
    bearer = await deployment.create_token("ada", tools=["index"], libraries=["poe"])
    await deployment.settle()
    log = tmp_path / "decisions.jsonl"
    pdp = deployment.pdp(record=FileRecord(log))
    async with guarded(pdp) as (_, served), served.client(bearer) as client:
        task = await call_tool_task(client, "index", {"query": "raven"})
        assert await result_of(task) == "raven in ['poe']"

    lines = [json.loads(line) for line in log.read_text().splitlines()]
    decided = [line for line in lines if line.get("action", {}).get("name") == "index"]
    assert [(line["allow"], line["libraries"]) for line in decided] == [(True, ["poe"])] * 2
    assert decided[0]["arguments_hash"] == decided[1]["arguments_hash"]
    assert bearer not in log.read_text()


async def test_refused_call_becomes_no_task(grants, plain_pdp):
    bearer = grants.token("index")
    grants.lay()
    async with guarded(plain_pdp) as (shop, served), served.client(bearer) as client:
        with pytest.raises(Exception, match="did not run as a task"):
            await call_tool_task(client, "sweep", {})
        assert "permission" in await served.refusal("sweep", bearer=bearer)
        assert shop.ran == []


async def test_task_is_invisible_to_other_callers(grants, plain_pdp):
    ada, eve = grants.token("*"), grants.token("*")
    grants.lay()
    async with guarded(plain_pdp) as (shop, served), served.client(ada) as first:
        task = await call_tool_task(first, "hold", {})
        await is_nothing_to(eve, served, task)
        for method in OF_A_TASK:
            assert "result" not in await asked(served, method, task.task_id)
        shop.go.set()
        assert await result_of(task) == "held"
        assert "result" in await asked(served, "tasks/get", task.task_id, ada)
        # FastMCP's authentication has let the caller through; the policy decides here.
        grants.lay(lockdown=True)
        answer = await asked(served, "tasks/get", task.task_id, ada)
        assert answer["error"]["message"] == "lockdown"
        grants.lay()
        grants.revoke(ada)
        assert "result" not in await asked(served, "tasks/get", task.task_id, ada)


async def test_task_callers_with_equal_labels_are_kept_apart(grants, plain_pdp):
    """FastMCP keeps tasks by what it knows of a caller, and logs name one by 32 bits of a digest."""
    ada, eve = (grants.token("*", number=number) for number in (55402, 87595))
    assert digest(ada)[:8] == digest(eve)[:8]
    grants.lay()
    async with guarded(plain_pdp) as (shop, served), served.client(ada) as first:
        task = await call_tool_task(first, "hold", {})
        await is_nothing_to(eve, served, task)
        shop.go.set()
        assert await result_of(task) == "held"


async def is_nothing_to(bearer, served, task):
    for method in OF_A_TASK:
        answer = await asked(served, method, task.task_id, bearer)
        assert "not found" in answer["error"]["message"]


async def asked(served, method, task_id, bearer=None):
    import httpx2

    meta = {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {
            "extensions": {"io.modelcontextprotocol/tasks": {}}
        },
    }
    headers = {
        "Accept": "application/json, text/event-stream",
        "MCP-Protocol-Version": "2026-07-28",
        "Mcp-Method": method,
        "Mcp-Name": task_id,
        **({"Authorization": f"Bearer {bearer}"} if bearer else {}),
    }
    body = {
        "jsonrpc": "2.0", "id": 1, "method": method, "params": {"taskId": task_id, "_meta": meta},
    }  # fmt: skip
    async with httpx2.AsyncClient(timeout=30) as http:
        answer = await http.post(served.url, json=body, headers=headers)
    return answer.json()


async def test_task_through_fastmcps_own_extension_is_refused(serve_plain, grants):
    bearer = grants.token("*")
    grants.lay()
    shop = TaskServer()
    shop.mcp.add_extension(TasksExtension(url="memory://refused"))
    served = await serve_plain(shop.mcp)

    assert "no tool as a task" in await served.refusal("sweep", bearer=bearer)
    assert "does not offer" in (await asked(served, "tasks/get", "x", bearer))["error"]["message"]


async def test_tasks_require_bearer_auth_and_encryption(plain_pdp, monkeypatch):
    policy = PolicyMiddleware(plain_pdp, registry=CollectorRegistry())
    monkeypatch.delenv("FASTMCP_TASKS_ENCRYPTION_KEY", raising=False)
    with pytest.raises(ConfigurationError, match="ENCRYPTION_KEY"):
        PolicyTasks(policy, url="redis://127.0.0.1:1/0")
    shop = TaskServer()
    shop.mcp.add_middleware(policy)
    shop.mcp.add_extension(PolicyTasks(policy, url="memory://doorless"))
    with pytest.raises(ConfigurationError, match="BearerAuth"):
        async with shop.mcp._lifespan_manager():
            pass


async def test_task_in_a_worker_without_the_policy_has_no_libraries(open_shop):
    shop, served = open_shop
    async with served.client() as client:
        reported = await result_of(await call_tool_task(client, "index", {"query": "x"}))
    assert reported.startswith("failed")
    assert shop.ran == []
