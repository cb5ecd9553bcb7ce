"""A running lictor with a guarded FastMCP server: what benchmarks of served requests start."""

import asyncio
import json
import os
import socket
import tempfile
from contextlib import asynccontextmanager
from pathlib import Path

import uvicorn
from fastmcp import FastMCP
from prometheus_client import CollectorRegistry

from bundles.opa.binary import find_opa
from lictor.settings import Settings
from lictor.state_dir import initialise, publish_policies
from mcp_plugin import BearerAuth, PolicyMiddleware
from pdp_client import PDP, BearerVerifier
from tests.support.deployment import Deployment
from tests.support.lictor_processes import LictorProcesses
from tests.support.redis import redis_server
from tests.support.waiting import until


def start_lictor(exit_, settings, *commands, fill=lambda: None):
    """Start `lictor serve` and OPA in a new state directory, until the context ends.

    Args:
        exit_: stops them.
        settings: of the state directory.
        commands: run after `lictor init`.
        fill: called before `lictor serve` starts.
    """
    run = LictorProcesses(settings, find_opa())
    exit_.callback(run.stop_all)
    # For commands that run in this process.
    os.environ.update({name: v for name, v in run.env.items() if name.startswith("LICTOR_")})
    for arguments in (("init",), *commands, ("policies", "build", "--sign")):
        run.json(*arguments)
    fill()
    run.start("serve")
    run.until((run.state / "admin.sock").exists, "lictor serve listens")
    run.start("opa")
    run.until((run.state / "opa" / "opa.sock").exists, "OPA listens")
    return run


@asynccontextmanager
async def deployed():
    """Start a lictor with the user `ada` and a Redis; yield both, and the folder they are in."""
    with tempfile.TemporaryDirectory(prefix="lb-", dir="/tmp") as folder, redis_server() as redis:
        settings = Settings(
            state=Path(folder) / "s", bundles_url="http://127.0.0.1:0", redis_url=redis.url
        )
        opa = find_opa()
        await initialise(settings, actor="bench")
        publish_policies(settings, opa)
        async with Deployment(settings, opa) as deployment:
            await deployment.start()
            await deployment.add_user("ada")
            yield deployment, redis, folder


def new_pdp(state, **settings):
    """A PDP for the OPA of a state directory."""
    return PDP(
        opa_url=f"unix://{state / 'opa' / 'opa.sock'}",
        opa_token_file=state / "opa" / "client.token",
        verifier=BearerVerifier([]),
        deadline=5,
        **settings,
    )


def guarded(pdp, *, auth=True, **settings):
    """A server without tools behind the policy, and the policy."""
    policy = PolicyMiddleware(pdp, registry=CollectorRegistry(), **settings)
    mcp = FastMCP("bench", auth=BearerAuth(policy, base_url="http://127.0.0.1:9") if auth else None)
    mcp.add_middleware(policy)
    return mcp, policy


@asynccontextmanager
async def serving(mcp, **http):
    """Serve on a free port of this process, and yield the port."""
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as listener:
        app = mcp.http_app(**http)
        config = uvicorn.Config(app, log_level="critical", timeout_graceful_shutdown=1)
        server = uvicorn.Server(config)
        task = asyncio.create_task(server.serve(sockets=[listener]))
        await until(lambda: server.started, "uvicorn listens")
        try:
            yield listener.getsockname()[1]
        finally:
            server.should_exit = True
            await task


def report(result, path):
    """Print a result as JSON, and write it to a file if one is named."""
    print(json.dumps(result, indent=1))
    if path:
        path.write_text(json.dumps(result) + "\n")
