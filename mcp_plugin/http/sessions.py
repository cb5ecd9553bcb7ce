"""Sessions over HTTP belong to the bearer that opened them, also without `BearerAuth`.

The SDK compares the caller of a request with the one that opened its session, but only callers that
an authentication provider named. Without a provider, anybody who learns a session's id could read
its stream, resume its results and end it. So the plugin compares bearers before the SDK does.
"""

import logging
from collections.abc import Iterator
from hashlib import sha256
from typing import Any, Final, Literal

from cachetools import LRUCache, TTLCache
from mcp import MCPError
from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
from mcp.shared.inbound import MCP_PROTOCOL_VERSION_HEADER
from mcp_types import INTERNAL_ERROR, INVALID_REQUEST
from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mcp_plugin.enforcer import Enforcer
from mcp_plugin.http import asgi
from mcp_plugin.http.request import bearer_of
from mcp_plugin.http.streams import guard_response
from pdp_client import Reason
from pdp_client.reasons import message

Sessions = Literal["bound", "unbound"]
"""`bound`: a session belongs to the bearer that opened it; `unbound`: to any caller with its id."""

_GONE: Final = 404
_FAILED: Final = 400
_MOST: Final = 20_000
"""Owners that are remembered: twice the sessions that the SDK allows at a time."""

MAX_ANONYMOUS: Final = 1000
"""Sessions of anonymous callers at a time; the SDK allows 10,000 in all."""

_IDLE: Final = 1800.0
"""Seconds after which the SDK ends a session that is not used, unless the server says otherwise."""

_log = logging.getLogger(__name__)


class SessionBinding:
    """ASGI middleware around a session manager that refuses requests of other bearers."""

    def __init__(self, app: ASGIApp, enforcer: Enforcer, *, sessions: Sessions) -> None:
        """Create the middleware.

        Args:
            app: the session manager's own application.
            enforcer: ends streams when their caller's access ends.
            sessions: whether requests of other bearers are refused.
        """
        self._is_bound = sessions == "bound"
        self._manager_app = app
        self._enforcer = enforcer
        # An owner that is forgotten ends the session, as if it had been idle for too long.
        self._owners: LRUCache[str, str] = LRUCache(_MOST)
        self._anonymous: TTLCache[str, None] = TTLCache(2 * MAX_ANONYMOUS, _IDLE)

    def bind(self, session_id: str, scope: Scope) -> None:
        """Make the caller of a request the owner of the session that it opened."""
        owner = self._owners.setdefault(session_id, _fingerprint(scope))
        if not owner:
            self._anonymous[session_id] = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Forward a request; answer 404 if the session belongs to another bearer."""
        if scope["type"] != "http" or isinstance(scope.get("user"), AuthenticatedUser):
            await self._app(scope, receive, send)
            return
        session_id = asgi.header(scope["headers"], asgi.SESSION)
        if session_id is None and self._is_crowded(scope):
            error = {"code": INTERNAL_ERROR, "message": "Too many open sessions"}
            await asgi.respond(send, 503, {"jsonrpc": "2.0", "id": None, "error": error})
            return
        if session_id is not None and session_id in self._anonymous:
            self._anonymous[session_id] = None  # it is in use
        if self._is_foreign(session_id, scope):
            # As the SDK says it of a session that does not exist.
            error = {"code": INVALID_REQUEST, "message": "Session not found"}
            await asgi.respond(send, 404, {"jsonrpc": "2.0", "id": None, "error": error})
            return

        async def send_bound(sent: Message) -> None:
            if sent["type"] != "http.response.start":
                await send(sent)
                return
            if session_id is not None and (sent["status"] == _GONE or scope["method"] == "DELETE"):
                self._anonymous.pop(session_id, None)
            elif session_id is None and sent["status"] < _FAILED:
                opened = asgi.header(sent.get("headers", ()), asgi.SESSION)
                if opened:
                    self.bind(opened, scope)
            await send(sent)

        await self._app(scope, receive, send_bound)

    async def _app(self, scope: Scope, receive: Receive, send: Send) -> None:
        await guard_response(
            self._manager_app,
            scope,
            receive,
            send,
            enforcer=self._enforcer,
            bearer=bearer_of(scope),
        )

    def _is_foreign(self, session_id: str | None, scope: Scope) -> bool:
        """Return whether a request names a session of another bearer, or of an unknown one."""
        if session_id is None or not self._is_bound:
            return False
        return self._owners.get(session_id) != _fingerprint(scope)

    def _is_crowded(self, scope: Scope) -> bool:
        """Return whether an anonymous caller would open one session too many."""
        if _fingerprint(scope):
            return False
        version = asgi.header(scope["headers"], MCP_PROTOCOL_VERSION_HEADER.encode())
        opens = scope["method"] == "POST" and (
            not version or version in HANDSHAKE_PROTOCOL_VERSIONS
        )
        return opens and len(self._anonymous) >= MAX_ANONYMOUS


def bind_sessions(
    manager: Any, enforcer: Enforcer, *, sessions: Sessions = "bound"
) -> SessionBinding:
    """Bind the sessions of a session manager; further calls change nothing.

    Args:
        manager: the SDK's `StreamableHTTPSessionManager`.
        enforcer: ends streams when their caller's access ends.
        sessions: `unbound` only watches over the streams.
    """
    if not isinstance(manager.asgi_app, SessionBinding):
        manager.asgi_app = SessionBinding(manager.asgi_app, enforcer, sessions=sessions)
    binding: SessionBinding = manager.asgi_app
    return binding


def manager_of(scope: Scope) -> Any:
    """Return the session manager that a request goes to; None if it cannot be found."""
    for endpoint in _endpoints(scope):
        manager = getattr(endpoint, "session_manager", None)
        if hasattr(manager, "asgi_app"):
            return manager
    return None


def refuse_unbound() -> MCPError:
    """Log that a server's sessions cannot be bound, and return the error for its clients."""
    _log.error(
        "mcp_auth.sessions this server's sessions cannot be bound to their callers: "
        'use BearerAuth or stateless_http=True, or say sessions="unbound"'
    )
    return MCPError(code=INTERNAL_ERROR, message=message(Reason.UNAVAILABLE))


def _endpoints(scope: Scope) -> Iterator[Any]:
    app = scope.get("app")
    for route in getattr(app, "routes", ()):
        endpoint = getattr(route, "endpoint", None)
        yield endpoint
        # An authentication provider wraps it.
        yield getattr(endpoint, "app", None)


def _fingerprint(scope: Scope) -> str:
    """Return what a session is bound to: the bearer's SHA-256; empty for an anonymous caller."""
    bearer = bearer_of(scope)
    return "" if bearer is None else sha256(bearer.encode()).hexdigest()
