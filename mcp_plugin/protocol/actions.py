"""The PDP's actions for MCP requests and components: the parts that the rules see."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import chain, repeat
from typing import Any

import mcp_types
from fastmcp import FastMCP
from fastmcp.prompts import Prompt
from fastmcp.resources import Resource, ResourceTemplate
from fastmcp.tools import Tool
from fastmcp.utilities.components import FastMCPComponent
from pydantic import ValidationError

from pdp_client import Action
from pdp_client.opa.limits import MAX_NAME

_LISTENABLE = 64
"""Resources of one subscription; each needs a decision."""


def call(name: str, tool: Tool | None, arguments: Mapping[str, Any] | None = None) -> Action:
    """Return the action of calling a tool; without the tool, of calling that name."""
    return Action(
        method="tools/call", name=name, arguments=arguments, **_described(tool, with_hints=True)
    )


class ToolActions:
    """The actions of a list's tools; those of the last list are kept, as most lists repeat it."""

    def __init__(self) -> None:
        self._last: list[tuple[Tool, frozenset[str], Action]] = []

    def of(self, tools: Sequence[Tool]) -> list[Action]:
        """Return the action of calling each tool, as `call` does."""
        found = []
        for tool, last in zip(tools, chain(self._last, repeat(None)), strict=False):
            # A tool may be changed in place.
            if (
                last is not None
                and last[0] is tool
                and last[1] == tool.tags
                and last[2].name == tool.name
                and last[2].version == tool.version
                and last[2].annotations == (tool.annotations and _hints(tool.annotations))
            ):
                found.append(last)
            else:
                found.append((tool, frozenset(tool.tags), call(tool.name, tool)))
        self._last = found
        return [action for _, _, action in found]


def read(uri: str, component: Resource | ResourceTemplate | None) -> Action:
    """Return the action of reading a resource, by its URI or through a template."""
    return Action(
        method="resources/read", name=uri, uri=uri, **_described(component, with_hints=True)
    )


def prompt(
    name: str, component: Prompt | None, arguments: Mapping[str, Any] | None = None
) -> Action:
    """Return the action of rendering a prompt."""
    return Action(method="prompts/get", name=name, arguments=arguments, **_described(component))


async def described(server: FastMCP, action: Action) -> Action:
    """Return an action of `of_message` with the server's description of its component.

    A rule that reads tags then applies to completions and subscriptions too.
    """
    component: FastMCPComponent | None = None
    if len(action.name) > MAX_NAME:
        return action  # no grant covers it, and looking it up takes long
    if action.method == "completion/complete" and action.uri is None:
        component = await server.get_prompt(action.name)
    elif action.method == "completion/complete":
        templates = await server.list_resource_templates(run_middleware=False)
        component = next((one for one in templates if one.uri_template == action.uri), None)
    elif action.uri is not None:
        component = await server.get_resource(action.uri)
        component = component or await server.get_resource_template(action.uri)
    return replace(action, **_described(component, with_hints=action.uri is not None))


def of_message(method: str, params: Any) -> list[Action] | None:
    """Return the actions of a request for which FastMCP has no hook.

    Returns:
        The actions; None for an unknown method.

    Raises:
        ValidationError: the parameters do not fit the method; pydantic's.
    """
    reader = _READERS.get(method)
    return None if reader is None else reader(params)


def _completion(params: Any) -> list[Action]:
    asked = mcp_types.CompleteRequestParams.model_validate(params, by_name=False)
    arguments = {**((asked.context and asked.context.arguments) or {})}
    arguments[asked.argument.name] = asked.argument.value
    of_prompt = isinstance(asked.ref, mcp_types.PromptReference)
    name = asked.ref.name if isinstance(asked.ref, mcp_types.PromptReference) else asked.ref.uri
    return [
        Action(
            method="completion/complete",
            name=name,
            uri=None if of_prompt else name,
            arguments=arguments,
        )
    ]


def _subscription(params: Any) -> list[Action]:
    asked = mcp_types.SubscribeRequestParams.model_validate(params, by_name=False)
    return [_subscribe(asked.uri)]


def _listening(params: Any) -> list[Action]:
    asked = mcp_types.SubscriptionsListenRequestParams.model_validate(params, by_name=False)
    wanted = asked.notifications.model_dump(by_alias=True, exclude_none=True)
    uris = wanted.pop("resourceSubscriptions", [])
    if len(uris) > _LISTENABLE:
        wanted["resourceSubscriptions"] = True
        uris = []
    # An extension's entry becomes a name that no grant covers by accident.
    named = [Action(method="subscriptions/listen", name=name) for name in sorted(wanted)]
    return [*named, *map(_subscribe, uris)] or [Action(method="subscriptions/listen", name="")]


def _subscribe(uri: str) -> Action:
    return Action(method="resources/subscribe", name=uri, uri=uri)


_READERS = {
    "completion/complete": _completion,
    "resources/subscribe": _subscription,
    "resources/unsubscribe": _subscription,
    "subscriptions/listen": _listening,
}


def _described(component: FastMCPComponent | None, *, with_hints: bool = False) -> dict[str, Any]:
    if component is None:
        return {}
    annotations = getattr(component, "annotations", None) if with_hints else None
    return {
        "tags": sorted(component.tags),
        "version": component.version,
        "annotations": None if annotations is None else _hints(annotations),
    }


def _hints(annotations: mcp_types.ToolAnnotations | mcp_types.Annotations) -> Mapping[str, Any]:
    if isinstance(annotations, mcp_types.ToolAnnotations):
        # By hand: a list has one for each tool, and the model's own method is ten times slower.
        hints = {name: getattr(annotations, field) for name, field in _TOOL_HINTS}
        return {name: value for name, value in hints.items() if value is not None}
    return annotations.model_dump(mode="json", by_alias=True, exclude_none=True)


_TOOL_HINTS = (
    ("destructiveHint", "destructive_hint"),
    ("idempotentHint", "idempotent_hint"),
    ("openWorldHint", "open_world_hint"),
    ("readOnlyHint", "read_only_hint"),
)

__all__ = ["ToolActions", "ValidationError", "call", "described", "of_message", "prompt", "read"]
