"""The components of an MCP server: read from the running server, or from a file of its tools."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

from lictor.exceptions import InvalidArgumentError, MCPServerError

_SECONDS = 30


@dataclass(frozen=True, slots=True)
class Component:
    """A tool, a prompt or a resource.

    Attributes:
        method: the method that uses it.
        name: its name, or a resource's URI.
        tags: its tags, which FastMCP publishes in `_meta`.
    """

    method: str
    name: str
    tags: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class ServerComponents:
    """All that a server offers.

    Attributes:
        components: tools, prompts and resources.
        methods: the methods whose components are known completely.
    """

    components: Sequence[Component]
    methods: frozenset[str]

    @classmethod
    def from_file(cls, path: Path) -> Self:
        """Read the result of `tools/list`, or a list of tools, from a JSON file.

        Raises:
            InvalidArgumentError: it is not one.
        """
        try:
            listed = json.loads(path.read_bytes())
        except (OSError, ValueError, RecursionError) as error:
            reason = f"not readable JSON ({type(error).__name__})"
            raise InvalidArgumentError(f"--tools {path} is {reason}. {_REMEDY}") from None
        for key in ("result", "tools"):
            listed = listed[key] if isinstance(listed, dict) and key in listed else listed
        if not isinstance(listed, list):
            raise InvalidArgumentError(f"--tools {path} is not a list of tools. {_REMEDY}")
        for index, tool in enumerate(listed):
            if not isinstance(tool, dict) or not isinstance(tool.get("name"), str):
                raise InvalidArgumentError(
                    f"--tools {path} has no name for tool {index + 1}. {_REMEDY}"
                )
        tools = [Component("tools/call", tool["name"], _tags(tool)) for tool in listed]
        return cls(tools, frozenset({"tools/call"}))

    @classmethod
    async def from_server(cls, url: str, bearer: str | None) -> Self:
        """Ask a running server for its tools, prompts and resources.

        Raises:
            InvalidArgumentError: the URL is not one of HTTP.
            MCPServerError: the server does not answer, or refuses.
        """
        shown = _without_user(url)
        # An MCP client takes longer to import than most commands to run.
        from fastmcp import Client  # noqa: PLC0415

        try:
            async with asyncio.timeout(_SECONDS), Client(url, auth=bearer) as client:
                listed = [("tools/call", await client.list_tools())]
                for method, list_all in (
                    ("prompts/get", client.list_prompts),
                    ("resources/read", client.list_resources),
                ):
                    listed.append((method, await list_all()))
                templates = await client.list_resource_templates()
        except TimeoutError:
            raise MCPServerError(
                f"The MCP server at {shown} did not list its tools within {_SECONDS} s. "
                "Is it running?"
            ) from None
        except Exception as error:  # noqa: BLE001 - whatever the client meets, the server is not read
            raise MCPServerError(
                f"The tools of {shown} cannot be listed: {_reason(error)}. "
                "Is an MCP server running there, and does it ask for --bearer-file?"
            ) from None
        components = [
            Component(method, str(getattr(one, "uri", one.name)), _tags({"_meta": one.meta}))
            for method, found in listed
            for one in found
        ]
        # A template stands for resources that no list names.
        known = {method for method, _ in listed} - ({"resources/read"} if templates else set())
        templated = [Component("", one.name, _tags({"_meta": one.meta})) for one in templates]
        return cls([*components, *templated], frozenset(known))

    def names(self) -> list[str]:
        """The names that a rule may compare an action's name with."""
        return sorted({one.name for one in self.components if one.method})

    def tags(self) -> list[str]:
        """All tags."""
        return sorted({tag for one in self.components for tag in one.tags})


_REMEDY = "Give the JSON of tools/list, or a list of objects with name and tags."


def _tags(tool: Mapping[str, Any]) -> list[str]:
    """Tags as FastMCP publishes them, or as a member of the tool itself."""
    meta = tool.get("_meta") or tool.get("meta")
    inner = [meta.get(key) for key in ("fastmcp", "_fastmcp")] if isinstance(meta, dict) else []
    for holder in (*inner, tool):
        tags = holder.get("tags") if isinstance(holder, dict) else None
        if isinstance(tags, list):
            return [tag for tag in tags if isinstance(tag, str)]
    return []


def _without_user(url: str) -> str:
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        parts = urlsplit("")
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise InvalidArgumentError(
            "--server is not a URL of HTTP. Give one such as http://host:8000/mcp."
        )
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()


def _reason(error: BaseException) -> str:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    said = " ".join(str(error).split())[:200]
    return f"{type(error).__name__}: {said}" if said else type(error).__name__
