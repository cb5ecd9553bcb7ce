"""The example server, where each call leaves a task behind: what a soak must notice."""

import asyncio
import runpy
import sys
from pathlib import Path

from fastmcp.server.middleware import Middleware

EXAMPLE = Path(__file__).parents[3] / "examples" / "library_server"


class Leak(Middleware):
    def __init__(self):
        self.tasks = []

    async def on_call_tool(self, context, call_next):
        self.tasks.append(asyncio.create_task(asyncio.Event().wait()))
        return await call_next(context)


if __name__ == "__main__":
    example = runpy.run_path(str(EXAMPLE / "server.py"), run_name="example")
    build_server = example["build_server"]

    def build_leaking(pdp):
        mcp = build_server(pdp)
        mcp.add_middleware(Leak())
        return mcp

    main = example["main"]
    main.__globals__["build_server"] = build_leaking
    sys.exit(asyncio.run(main()))
