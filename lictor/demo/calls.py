"""The demo's MCP clients, and what came of their calls."""

import asyncio
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from fastmcp import Client
from fastmcp.client.transports import StreamableHttpTransport

from lictor.demo.people import DemoCaller
from lictor.demo.processes import LICTOR, Demo
from lictor.exceptions import DemoFailedError

_CALLS = 30
"""Calls with the old token before the rotation, and refused ones after it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CallOutcome:
    """The result of a call; `ms` is the client's time for it, everything included."""

    who: str
    tool: str
    allowed: bool
    reason: str
    libraries: list[str]
    ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Rotation:
    """The result of a rotation while the team was calling.

    Attributes:
        allowed: how many calls with the old token were allowed.
        refused: how many were refused.
        outlived_ms: how long after the command had returned a call with the old token still began
            that was then allowed; 0 when none did.
        reason: why the old token is refused.
        new: what came of a call with the new token.
    """

    allowed: int
    refused: int
    outlived_ms: float
    reason: str
    new: CallOutcome


async def call_all(demo: Demo) -> list[CallOutcome]:
    """Have every caller make its call, one after the other."""
    return [await _call(demo, caller) for caller in demo.people.callers]


async def rotate_while_calling(demo: Demo) -> Rotation:
    """Rotate the team's token with the `lictor` command while the team calls in a loop.

    Raises:
        DemoFailedError: the command failed.
    """
    began: dict[bool, list[float]] = {True: [], False: []}
    warm, refused = asyncio.Event(), asyncio.Event()

    async def call_until_refused() -> None:
        async with _client(demo, demo.people.team_jwt) as client:
            while len(began[False]) < _CALLS:
                at = time.perf_counter()
                result = await client.call_tool("list_libraries", raise_on_error=False)
                began[not result.is_error].append(at)
                if len(began[True]) >= _CALLS:
                    warm.set()
            refused.set()

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(call_until_refused())
        await warm.wait()
        process = await asyncio.create_subprocess_exec(
            *LICTOR, "team", "rotate", demo.people.team_id, "--format=json", "--wait",
            env=demo.environment,
            stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        said, _ = await process.communicate()
        returned = time.perf_counter()
        if process.returncode:
            raise DemoFailedError(f"lictor team rotate exited with {process.returncode}")
        await refused.wait()
    reason = _last_record(demo)["reason"]
    caller = DemoCaller("the new JWT", json.loads(said)["jwt"], "list_libraries", {})
    return Rotation(
        allowed=len(began[True]),
        refused=len(began[False]),
        outlived_ms=max(0.0, (began[True][-1] - returned) * 1000),
        reason=reason,
        new=await _call(demo, caller),
    )


async def _call(demo: Demo, caller: DemoCaller) -> CallOutcome:
    async with _client(demo, caller.bearer) as client:
        began = time.perf_counter()
        result = await client.call_tool(caller.tool, caller.arguments, raise_on_error=False)
        took = time.perf_counter() - began
    record = _last_record(demo)
    return CallOutcome(
        who=caller.who,
        tool=caller.tool,
        allowed=not result.is_error,
        reason=record["reason"],
        libraries=record["libraries"],
        ms=took * 1000,
    )


def _client(demo: Demo, bearer: str | None) -> Client[StreamableHttpTransport]:
    headers = {"Authorization": f"Bearer {bearer}"} if bearer else {}
    return Client(StreamableHttpTransport(demo.url, headers=headers))


def _last_record(demo: Demo) -> dict[str, Any]:
    """The server's own record of the last call: the reason is not the client's to know."""
    records: Iterator[dict[str, Any]] = map(
        json.loads, reversed(demo.record.read_text().splitlines())
    )
    # The client asks for a list of its own around a call, which is on record too.
    return next(record for record in records if "action" in record)
