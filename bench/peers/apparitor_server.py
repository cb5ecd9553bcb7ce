"""A FastMCP server behind apparitor, which asks an AuthZEN PDP: `apparitor_server.py SETTINGS`.

Prints its port, and serves until standard input ends.
"""

import asyncio
import json
import sys

import uvicorn
from apparitor.config import ScannerConfig
from apparitor.fastmcp import FastMCPAuthorizationMiddleware
from fastmcp import FastMCP
from fastmcp.server.auth.providers.jwt import StaticTokenVerifier
from worker import settings


def server(given):
    tokens = {given["bearer"]: {"client_id": "bench", "sub": "bench", "scopes": []}}
    mcp = FastMCP("bench", auth=StaticTokenVerifier(tokens=tokens))

    @mcp.tool(tags={"read"})
    async def search(query: str) -> list[str]:
        return [query]

    config = ScannerConfig(pdp_url=given["pdp"], allow_insecure_pdp=True, agent_id="bench")
    mcp.add_middleware(FastMCPAuthorizationMiddleware(config=config, filter_listings=True))
    return mcp


async def main():
    config = uvicorn.Config(server(settings()).http_app(), port=0, log_level="error", ws="none")
    serving = uvicorn.Server(config)
    task = asyncio.create_task(serving.serve())
    while not serving.started:  # noqa: ASYNC110 - uvicorn has no event for it
        await asyncio.sleep(0.01)
    print(json.dumps([serving.servers[0].sockets[0].getsockname()[1]]), flush=True)
    await asyncio.to_thread(sys.stdin.read)
    serving.should_exit = True
    await task


asyncio.run(main())
