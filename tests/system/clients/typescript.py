"""The TypeScript SDK's clients, driven from Python: `driver.mjs` is the other side."""

import asyncio
import itertools
import json
import subprocess
import threading
from concurrent.futures import Future

from tests.system.conformance.npm import node_in

PATIENCE = 60
"""Seconds after which a command counts as hung."""


class SDKError(Exception):
    """What the SDK's client threw.

    Attributes:
        type: the name of its class.
        status: the HTTP status, if the error has one.
        code: the SDK's code, or JSON-RPC's.
        data: of a JSON-RPC error.
    """

    def __init__(self, type, message, status=None, code=None, data=None):  # noqa: A002 - as sent
        super().__init__(f"{type}: {message}")
        self.type, self.status, self.code, self.data = type, status, code, data


class NodeProcess:
    """A Node that runs one generation of the SDK, for all tests of a session."""

    def __init__(self, packages, script):
        """Start it.

        Args:
            packages: the folder with `node_modules`.
            script: one of the scripts beside this file, where they can import from it.
        """
        self._process = subprocess.Popen(
            [node_in(packages), script],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8",
        )  # fmt: skip
        self._ids = itertools.count()
        self._pending = {}
        self.heard = {}
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    async def run(self, command, **arguments):
        """Run a command of the driver's.

        Raises:
            SDKError: what the SDK threw.
        """
        number, answer = next(self._ids), Future()
        self._pending[number] = answer
        line = {"id": number, "run": command, **arguments}
        self._process.stdin.write(json.dumps(line) + "\n")
        self._process.stdin.flush()
        return await asyncio.wait_for(asyncio.wrap_future(answer), PATIENCE)

    def stop(self):
        self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join()
        self._process.stdout.close()

    def _read(self):
        for line in self._process.stdout:
            said = json.loads(line)
            if "heard" in said:
                self.heard.setdefault(said["client"], []).append(said["heard"])
                continue
            answer = self._pending.pop(said["id"])
            if answer.cancelled():
                continue
            if "error" in said:
                answer.set_exception(SDKError(**said["error"]))
            else:
                answer.set_result(said["result"])
        for answer in self._pending.values():
            if not answer.done():
                answer.set_exception(RuntimeError("Node has ended"))


class SDKClient:
    """One client of the SDK's, to one server.

    Attributes:
        version: the protocol that was negotiated.
        session: the id of the session, in protocols that have one.
    """

    def __init__(self, node, name):
        self._node, self._name = node, name
        self.version = self.session = self.server = None

    async def connect(self, url, **settings):
        """Connect; the settings are those of the driver's `connect`."""
        connected = await self._node.run("connect", client=self._name, url=url, **settings)
        self.server, self.version = connected.get("server"), connected.get("version")
        self.session = connected.get("session")
        return self

    async def call(self, method, params=None, **options):
        """Call one of the SDK's methods, such as `listTools`; params may be any JSON."""
        return await self._node.run(
            "call", client=self._name, method=method, params=params, **options
        )

    async def tool(self, name, **arguments):
        return await self.call("callTool", {"name": name, "arguments": arguments})

    async def text(self, name, **arguments):
        """The text of a tool's result, which must not be an error."""
        result = await self.tool(name, **arguments)
        assert not result.get("isError"), result
        return result["content"][0]["text"]

    async def refusal(self, name, **arguments):
        """The text and the structured reason of a refused call's result."""
        result = await self.tool(name, **arguments)
        assert result["isError"], result
        return result["content"][0]["text"], result["_meta"]["lictor/denial"]

    async def names(self, method, member, key="name"):
        """What a list shows, by name."""
        return {one[key] for one in (await self.call(method))[member]}

    async def exchanges(self):
        """Each HTTP request of this client's, with the status of its response."""
        return await self._node.run("exchanges", client=self._name)

    async def discover(self, url):
        """The metadata that the SDK finds from the response to a request without a bearer."""
        return await self._node.run("discover", url=url)

    async def terminate(self):
        """End the session, as the SDK does: DELETE."""
        await self._node.run("terminate", client=self._name)

    async def close(self):
        await self._node.run("close", client=self._name)

    @property
    def heard(self):
        """What came from the server outside of answers, and what the SDK reported as errors."""
        return self._node.heard.get(self._name, [])

    def heard_of(self, kind):
        return [one[kind] for one in self.heard if kind in one]
