"""MCP's conformance suite passes with the plugin what it passes without, check by check."""

import asyncio
import re
import socket
from collections import Counter
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import uvicorn
from fastmcp.server.event_store import EventStore
from prometheus_client import CollectorRegistry
from support.downloads import DownloadUnavailableError
from support.waiting import until

from mcp_plugin import BearerAuth, PolicyMiddleware

from .everything import everything
from .suite import RUNS, find_suite

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "conformance.md"

ATTEMPTS = 3
"""Runs before a difference counts: the suite gives a server less than a second for some answers,
and this machine may have other things to do."""

GRANTED = (
    "test_*", "json_schema_2020_12_tool", "prompts/get:*", "resources/read:*",
    "resources/subscribe:*", "completion/complete:*", "subscriptions/listen:*",
)  # fmt: skip

pytestmark = [
    pytest.mark.anyio,
    # Half of what the suite calls is deprecated since 2026-07-28.
    pytest.mark.filterwarnings("ignore::mcp.shared.exceptions.MCPDeprecationWarning"),
]


class Carrying:
    """Gives each request a bearer, since the suite has none to send."""

    def __init__(self, app, bearer):
        self._app = app
        self._authorization = (b"authorization", f"Bearer {bearer}".encode())

    async def __call__(self, scope, receive, send):
        if scope["type"] == "http":
            scope = {**scope, "headers": [*scope["headers"], self._authorization]}
        await self._app(scope, receive, send)


@asynccontextmanager
async def served(mcp, listener, bearer):
    """Its URL; with h11, which trims what surrounds a header's value as RFC 9110 wants."""
    app = mcp.http_app(event_store=EventStore(), retry_interval=100, host_origin_protection=True)
    config = uvicorn.Config(
        Carrying(app, bearer) if bearer else app,
        http="h11", ws="none", lifespan="on", log_level="error", timeout_graceful_shutdown=1,
    )  # fmt: skip
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve(sockets=[listener]))
    await until(lambda: server.started or task.done(), "uvicorn listens")
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/mcp"
    finally:
        server.should_exit = True
        await task


@pytest.fixture(scope="session")
def suite():
    try:
        return find_suite()
    except DownloadUnavailableError as reason:
        # It is npm's: a machine without Node cannot run it.
        pytest.skip(str(reason))


@pytest.fixture
async def outcomes(suite, deployment):
    """The outcomes of a run, and how many decisions it took."""

    async def outcomes(run, *, tools=None, auth=False):
        mcp, metrics, bearer = everything(), CollectorRegistry(), None
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            if tools is not None:
                bearer = await deployment.create_token("ada", tools=tools)
                await deployment.settle()
                policy = PolicyMiddleware(deployment.pdp(), registry=metrics)
                mcp.add_middleware(policy)
                if auth:
                    base_url = f"http://127.0.0.1:{listener.getsockname()[1]}"
                    mcp.auth = BearerAuth(policy, base_url=base_url)
            async with served(mcp, listener, bearer) as url:
                return await suite.run(run, url), _decisions(metrics)

    await deployment.add_user("ada")
    return outcomes


def _decisions(metrics):
    counted = Counter()
    for metric in metrics.collect():
        for sample in metric.samples:
            if sample.name in {"lictor_decisions_total", "lictor_lists_total"}:
                counted[sample.labels["reason"]] += int(sample.value)
    return counted


@pytest.mark.parametrize("run", RUNS)
async def test_plugin_changes_no_outcome(outcomes, run):
    for _ in range(ATTEMPTS):
        bare, _ = await outcomes(run)
        guarded, decided = await outcomes(run, tools=GRANTED)
        behind_auth, _ = await outcomes(run, tools=GRANTED, auth=True)
        if bare == guarded == behind_auth and cells(bare) == _shown(run):
            break

    for scenario, cell in cells(bare).items():
        print(f"{run} | {scenario} | {cell}")
    assert guarded == bare
    assert behind_auth == bare
    assert decided["ok"] > 20
    assert cells(bare) == _shown(run)


async def test_guarded_server_without_grants_passes_almost_nothing(outcomes):
    """So that the plugin is known to be in the way of what was compared."""
    bare, _ = await outcomes("released")
    guarded, decided = await outcomes("released", tools=["nothing"])

    lost = {scenario for scenario, _, status in bare - guarded if status == "SUCCESS"}
    assert {"tools-call-image", "prompts-get-simple", "resources-read-text"} <= lost
    assert decided["tool_not_allowed"] > 20


def cells(outcomes):
    """What the page shows: for each scenario the checks that passed, and what else there was."""
    by_scenario = {}
    for (scenario, _, status), times in sorted(outcomes.items()):
        by_scenario.setdefault(scenario, Counter())[status] += times
    return {scenario: _cell(found) for scenario, found in by_scenario.items()}


def _cell(found):
    others = [
        f"{found[status]} {status.lower()}" for status in sorted(found) if status != "SUCCESS"
    ]
    return ", ".join([str(found["SUCCESS"]), *others])


def _shown(run):
    """The column of a run on the page."""
    column = [*RUNS].index(run)
    _, _, table = PAGE.read_text().partition("\n| scenario |")
    rows = re.findall(r"^\| ([a-z0-9-]*[a-z0-9]) \|(.*)\|$", table, re.MULTILINE)
    printed = {scenario: rest.split("|")[column].strip() for scenario, rest in rows}
    return {scenario: cell for scenario, cell in printed.items() if cell != "-"}
