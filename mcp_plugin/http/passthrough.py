"""The caller's bearer stays here: a proxied server does not get it (MCP, Token Passthrough).

FastMCP's proxies send the headers of the request on to the server behind them, the bearer included.
That server, or a reader of its logs, could then call this one in the caller's name. So a server
with a proxy behind it sees requests without the bearer; the policy alone still finds it.
"""

import logging
from typing import Any, Final

from fastmcp import FastMCP
from fastmcp.server.providers.proxy import ProxyProvider
from starlette.requests import Request

from mcp_plugin.fastmcp_compat import servers_of, wrapped_provider

_KEPT: Final = "lictor.headers"
_log = logging.getLogger(__name__)


class BearerShield:
    """Hides the bearers of requests from the code of a server with proxies."""

    def __init__(self) -> None:
        """Create the shield; it looks for proxies on each request, as they may be added late."""
        self._is_logged = False

    def hide(self, server: FastMCP, carrying: Any) -> None:
        """Give the request that carries a message no bearer, if a proxy could send it on.

        Args:
            server: the server that got the message.
            carrying: FastMCP's request context.
        """
        request = carrying.request if carrying else None
        if request is None or _KEPT in request.scope or not _has_proxy(server):
            return
        if not self._is_logged:
            self._is_logged = True
            _log.info(
                "mcp_auth.passthrough callers' bearers are not sent on to proxied servers; "
                "forward_bearer=True sends them"
            )
        headers = request.scope["headers"]
        hidden = [one for one in headers if one[0].lower() != b"authorization"]
        scope = {**request.scope, "headers": hidden, _KEPT: headers}
        carrying.request = Request(scope, request.receive)


def headers_of(scope: Any) -> list[tuple[bytes, bytes]]:
    """Return the headers of a request as its client sent them."""
    headers: list[tuple[bytes, bytes]] = scope.get(_KEPT) or scope["headers"]
    return headers


def _has_proxy(server: FastMCP) -> bool:
    return any(
        isinstance(wrapped_provider(provider), ProxyProvider)
        for one in servers_of(server)
        for provider in one.providers
    )
