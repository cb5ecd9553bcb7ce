"""The components that a low-level server of the MCP SDK lists, its only description of them."""

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

import mcp_types
from mcp import InvalidUriTemplate, UriTemplate
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel import Server
from pydantic import BaseModel

from mcp_plugin.protocol.uris import is_expansion

_MOST_PAGES: Final = 1000

Context = ServerRequestContext[Any, Any]


class ComponentKind(NamedTuple):
    """A kind of component: how its list is read, and what using an entry would be."""

    entries: str
    name: str
    method: str
    params: type[BaseModel]


TEMPLATES: Final = "resources/templates/list"
KINDS: Final = {
    "tools/list": ComponentKind("tools", "name", "tools/call", mcp_types.CallToolRequestParams),
    "resources/list": ComponentKind(
        "resources", "uri", "resources/read", mcp_types.ReadResourceRequestParams
    ),
    TEMPLATES: ComponentKind(
        "resourceTemplates", "uriTemplate", "resources/read", mcp_types.ReadResourceRequestParams
    ),
    "prompts/list": ComponentKind(
        "prompts", "name", "prompts/get", mcp_types.GetPromptRequestParams
    ),
}
"""By the method that lists it."""

USES: Final = {kind.method: (listed, kind) for listed, kind in KINDS.items() if listed != TEMPLATES}
"""By the method that uses it: the method that lists it, and the kind."""


async def entries(server: Server[Any], ctx: Context, listed: str) -> AsyncIterator[Any]:
    """Yield the components of a kind, as a server lists them now: models, or wire objects."""
    handler = server.get_request_handler(listed)
    cursor = None
    for _ in range(_MOST_PAGES if handler else 0):
        assert handler is not None  # noqa: S101 - for the type alone
        page = await handler.handler(ctx, mcp_types.PaginatedRequestParams(cursor=cursor))
        for entry in member(page, KINDS[listed].entries) or ():
            yield entry
        cursor = member(page, "nextCursor")
        if cursor is None:
            break


async def entry(server: Server[Any], ctx: Context, listed: str, name: str) -> Any:
    """Return the component of a name; None if the server does not list it."""
    async for one in entries(server, ctx, listed):
        if str(member(one, KINDS[listed].name)) == name:
            return one
    return None


async def templates(server: Server[Any], ctx: Context, uri: str) -> list[Any]:
    """Return the listed templates that may match a URI; the server does not say which one does.

    An entry that is not an RFC 6570 template may match any URI.
    """
    found = []
    async for one in entries(server, ctx, TEMPLATES):
        template = _parsed(one)
        if template is None or template.match(uri, max_uri_length=len(uri)) is not None:
            found.append(one)
    return found


def matches_template(found: Sequence[Any], uri: str) -> bool:
    """Return whether one of its templates expands to a URI with the values found in it."""
    for template in map(_parsed, found):
        if template is None:
            return True
        values = template.match(uri, max_uri_length=len(uri)) or {}
        if is_expansion(uri, template.expand(values), values.values()):
            return True
    return False


def member(of: Any, name: str) -> Any:
    """Return a member of what a handler returned: a model, or a wire object."""
    if isinstance(of, Mapping):
        return of.get(name)
    found = dict(_named(of)).get(name)
    if isinstance(found, BaseModel):
        return found.model_dump(mode="json", by_alias=True, exclude_none=True)
    return found


def _parsed(template: Any) -> UriTemplate | None:
    try:
        return UriTemplate.parse(str(member(template, "uriTemplate")))
    except InvalidUriTemplate:
        return None


def _named(of: BaseModel | None) -> Iterator[tuple[str, Any]]:
    for field, info in type(of).model_fields.items() if of is not None else ():
        yield info.alias or field, getattr(of, field)
