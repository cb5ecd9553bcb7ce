"""The Inspector's CLI: one process for each request."""

import asyncio
import json
import os
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tests.system.conformance.npm import node_in

PATIENCE = 60
"""Seconds after which a run counts as hung."""

AUTH_REQUIRED = 3
TOOL_ERROR = 5
"""Exit codes of the CLI; 1 is any other error."""


@dataclass(frozen=True)
class Inspection:
    """What came of one run.

    Attributes:
        code: the exit code.
        result: the JSON-RPC result, if there was one.
        error: the CLI's word for the kind of an error.
        message: what it says of the error.
    """

    code: int
    result: dict | None
    error: str | None
    message: str | None

    @property
    def text(self):
        """The text of a tool's result."""
        return self.result["content"][0]["text"]


class Inspector:
    """Runs the CLI; two at once, since each keeps a core busy."""

    def __init__(self, packages):
        self._command = [node_in(packages), packages / "node_modules" / ".bin" / "mcp-inspector"]
        self._slots = asyncio.Semaphore(2)

    async def run(self, method, *arguments, server, era="legacy"):
        """Send one request.

        Args:
            method: of the protocol.
            *arguments: flags of the CLI for the method.
            server: its entry in the CLI's configuration, which holds the bearer: argv is not
                private.
            era: `legacy`, `auto` or `modern`.
        """
        with tempfile.TemporaryDirectory(prefix="inspector-") as folder:
            config = Path(folder) / "servers.json"
            config.touch(0o600)
            config.write_text(json.dumps({"mcpServers": {"shop": server}}))
            flags = [
                "--cli", "--config", config, "--server", "shop", "--protocol-era", era,
                "--method", method, "--format", "json", "--quiet", "--stored-auth-only",
            ]  # fmt: skip
            # Its defaults are a keychain for secrets and the user's home for settings.
            env = {**os.environ, "HOME": folder, "MCP_INSPECTOR_SECRET_STORE": "memory"}
            async with self._slots:
                return await self._run([*self._command, *flags, *arguments], env)

    async def _run(self, command, env):
        process = await asyncio.create_subprocess_exec(
            *command, env=env, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        try:
            out, err = await asyncio.wait_for(process.communicate(), PATIENCE)
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        failure = next(
            (
                json.loads(line)["error"]
                for line in err.decode().splitlines()
                if line.startswith('{"error"')
            ),
            {},
        )
        return Inspection(
            code=process.returncode,
            result=json.loads(out)["result"] if out.strip() else None,
            error=failure.get("code"),
            message=failure.get("message"),
        )


def over_http(url, bearer=None):
    """The configuration of a server with a URL."""
    headers = {} if bearer is None else {"Authorization": f"Bearer {bearer}"}
    return {"type": "streamable-http", "url": url, "headers": headers}
