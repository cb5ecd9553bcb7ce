"""The caller's bearer stays here: a proxied server does not get it (MCP, Token Passthrough).

FastMCP's proxies send the headers of the request on to the server behind them, the bearer included.
That server, or a reader of its logs, could then call this one in the caller's name. So a server
that may have a proxy behind it sees requests without the bearer; the policy alone still finds it.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from fastmcp import FastMCP
from fastmcp.server.dependencies import get_http_request
from fastmcp.server.http import set_http_request
from fastmcp.server.providers import (
    AggregateProvider,
    FastMCPProvider,
    FileSystemProvider,
    LocalProvider,
    OpenAPIProvider,
    Provider,
    SkillProvider,
)
from fastmcp.server.providers.proxy import ProxyPrompt, ProxyResource, ProxyTemplate, ProxyTool
from fastmcp.tools.tool_transform import TransformedTool
from starlette.requests import Request

from mcp_plugin.fastmcp_compat import providers_of, servers_of

# What FastMCP itself gives these holds no `Authorization`, and they combine what is checked too.
_SENDS_NONE = (
    AggregateProvider,
    FastMCPProvider,
    FileSystemProvider,
    LocalProvider,
    OpenAPIProvider,
    SkillProvider,
)
_PROXIED = (ProxyPrompt, ProxyResource, ProxyTemplate, ProxyTool)
_KEPT: Final = "lictor.headers"
_log = logging.getLogger(__name__)


class BearerShield:
    """Hides the bearers of requests from the code of a server that may have proxies."""

    def __init__(self) -> None:
        """Create the shield; it looks for proxies on each request, as they may be added late."""
        self._is_logged = False

    async def needed(self, server: FastMCP) -> bool:
        """Return whether a proxy of a server, or of one that is mounted on it, could send a bearer.

        Providers of unknown types might.
        """
        for one in servers_of(server):
            for provider in providers_of(one):
                if not isinstance(provider, _SENDS_NONE) or await _holds_proxied(provider):
                    return True
        return False

    @contextmanager
    def hiding(self, carrying: Any) -> Iterator[None]:
        """Hide the bearer of the request that is being served.

        Args:
            carrying: FastMCP's request context of the message, or None.
        """
        try:
            request = get_http_request()
        except RuntimeError:  # there is none over stdio
            yield
            return
        if not self._is_logged:
            self._is_logged = True
            _log.info(
                "mcp_auth.passthrough callers' bearers are not sent on to proxied servers; "
                "forward_bearer=True sends them"
            )
        headers = headers_of(request.scope)
        hidden = [one for one in headers if one[0].lower() != b"authorization"]
        scope = {**request.scope, "headers": hidden, _KEPT: headers}
        bare = Request(scope, request.receive)
        if carrying is not None:
            carrying.request = bare
        # A proxy of a server in memory, whose messages no request carries, looks here.
        with set_http_request(bare):
            yield


def headers_of(scope: Any) -> list[tuple[bytes, bytes]]:
    """Return the headers of a request as its client sent them."""
    headers: list[tuple[bytes, bytes]] = scope.get(_KEPT) or scope["headers"]
    return headers


async def _holds_proxied(provider: Provider) -> bool:
    """Return whether components of a proxy were added to a server as its own."""
    if not isinstance(provider, LocalProvider) or isinstance(provider, FileSystemProvider):
        return False
    own: list[Any] = [
        *await provider.list_tools(),
        *await provider.list_resources(),
        *await provider.list_resource_templates(),
        *await provider.list_prompts(),
    ]
    while own:
        # `isinstance` is slow for pydantic's classes, and this is done for each request.
        kinds = {type(one) for one in own}
        if any(issubclass(kind, _PROXIED) for kind in kinds):
            return True
        made = {kind for kind in kinds if issubclass(kind, TransformedTool)}
        own = [one.parent_tool for one in own if type(one) in made]
    return False
