"""The door of a server that is protected by bearers over HTTP: `FastMCP(auth=BearerAuth(…))`.

Who is not authenticated is told so by HTTP, with where to find out more: RFC 6750 §3, RFC 9728
§5.1, MCP authorization. What an authenticated caller may not do is said in band: its rights are in
the registry, so no scope that a client could ask for would help, and there is no
`insufficient_scope`.
"""

import logging
from collections.abc import Iterable
from typing import Any, Final

from fastmcp.server.auth import AccessToken, AuthProvider
from fastmcp.server.auth.middleware import RequireAuthMiddleware
from fastmcp.server.http import StreamableHTTPASGIApp
from mcp.server.auth.middleware.auth_context import AuthContextMiddleware
from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
from mcp.server.auth.routes import build_resource_metadata_url, cors_middleware
from mcp_types import HEADER_MISMATCH
from pydantic import AnyHttpUrl
from starlette.authentication import AuthCredentials
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Match, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from mcp_plugin.enforcer import Enforcer
from mcp_plugin.fastmcp_compat import sdk_server
from mcp_plugin.http import asgi
from mcp_plugin.http.request import Outcome, extract
from mcp_plugin.middleware import PolicyMiddleware
from mcp_plugin.protocol.param_headers import compare_nothing
from mcp_plugin.spans import joined
from pdp_client import Credential, Reason, ReasonClass

_STRANGERS_BODY: Final = 64 * 1024
"""Bytes that somebody without a bearer may send; lists and health checks are short."""

_PASSAGE: Final = "lictor.passage"
_SESSION: Final = b"mcp-session-id"

_log = logging.getLogger(__name__)


class BearerAuth(AuthProvider):
    """Answers a request without a good bearer with 401, and says where the metadata is.

    Verifies as the policy's PDP does, opaque tokens too, and asks it whether the bearer is good
    *now*; every request is then still decided by the policy, on the bearer itself. A caller without
    a bearer gets in for what the policy shows to anybody. In an outage all get in, to be refused in
    band: a 401 would have clients throw good tokens away.
    """

    def __init__(
        self,
        policy: PolicyMiddleware,
        *,
        base_url: str,
        authorization_servers: Iterable[str] = (),
        allowed_origins: Iterable[str] = (),
        name: str | None = None,
        documentation: str | None = None,
    ) -> None:
        """Tie the door to the policy behind it.

        Args:
            policy: decides on what gets in; a server without it in its middleware lets nobody in.
            base_url: where clients find the server, without the path of its endpoint.
            authorization_servers: URLs of those that mint its bearers (RFC 8414); none where
                operators hand bearers out.
            allowed_origins: pages that may call it from a browser, besides those at `base_url`.
            name: of the server, for people.
            documentation: URL of a page on how to get a bearer, for people.

        Raises:
            ConfigurationError: a URL is none.
        """
        self.origins = asgi.origins([base_url, *allowed_origins])
        super().__init__(base_url=base_url)
        self.policy = policy
        self._authorization_servers = [*authorization_servers]
        self._described = {
            key: value
            for key, value in (("resource_name", name), ("resource_documentation", documentation))
            if value is not None
        }

    async def verify_token(self, token: str) -> AccessToken | None:
        """What FastMCP knows of a good bearer; None for one that is not."""
        return await verified(self.policy.enforcer, token)

    def get_middleware(self) -> list[Any]:
        """The door itself, for the application."""
        return [Middleware(BearerAuthMiddleware, auth=self), Middleware(AuthContextMiddleware)]

    def get_routes(self, mcp_path: str | None = None) -> list[Route]:
        """The metadata, and the way of those who are let in without a bearer."""
        self.set_mcp_path(mcp_path)
        described = {
            "resource": str(self._get_resource_url(mcp_path)),
            "bearer_methods_supported": ["header"],
            **self._described,
        }
        # MCP demands one, RFC 9728 does not; to name one that is not there would help nobody.
        if self._authorization_servers:
            described["authorization_servers"] = self._authorization_servers

        async def metadata(_: Request) -> Response:
            return JSONResponse(described, headers={"Cache-Control": "public, max-age=3600"})

        where = AnyHttpUrl(self.metadata_url(mcp_path)).path or "/"
        methods = ["GET", "OPTIONS"]
        routes = [Route(where, cors_middleware(metadata, methods), methods=methods)]
        if mcp_path:
            routes.insert(0, AnonymousRoute(mcp_path, _Endpoint(), name="without_token"))
        return routes

    def metadata_url(self, mcp_path: str | None) -> str:
        """Where a client finds the metadata of an endpoint (RFC 9728 §3.1)."""
        resource = self._get_resource_url(mcp_path)
        assert resource is not None, "there is a base_url"  # noqa: S101 - for the type alone
        return str(build_resource_metadata_url(resource))


async def verified(enforcer: Enforcer, token: str) -> AccessToken | None:
    """What FastMCP and the SDK know of a good bearer; None for one that is not."""
    credential, reason = await enforcer.pdp.authenticate(token, transport="http")
    if credential is None or reason.reason_class is ReasonClass.AUTHENTICATION:
        return None
    return access_token(credential)


def access_token(credential: Credential) -> AccessToken:
    """What FastMCP keeps of a caller: sessions belong to it, and it is named in traces.

    The bearer is not in it: a tool has no business with it (MCP, Token Passthrough).
    """
    # FastMCP keeps tasks apart by `client_id` and this claim; a label is too short to be one's own.
    claims = {"sub": credential.digest, **credential.claims}
    return AccessToken(
        token=credential.label,
        client_id=credential.label,
        scopes=[],
        subject=str(claims["sub"]),
        expires_at=claims.get("exp"),
        claims=claims,
    )


class BearerAuthMiddleware:
    """Stands before the MCP endpoint, and nothing else."""

    def __init__(self, app: ASGIApp, *, auth: BearerAuth) -> None:
        self._app = app
        self._auth = auth
        self._policy = auth.policy

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request in, or respond in place of the endpoint."""
        endpoint = _endpoint(scope)
        if endpoint is None:
            await self._app(scope, receive, send)
            return
        server = scope["app"].state.fastmcp_server
        if not any(one is self._policy for one in server.middleware):
            # Whoever is authenticated would be allowed everything.
            _log.error("mcp_auth.unguarded the policy is not in the server's middleware; add it")
            await asgi.answer(send, 500, {"error": "This server has no policy."})
            return
        # The policy does so itself, but the SDK compares before it, also at the very first request.
        compare_nothing(sdk_server(server))
        with joined(scope["headers"]):
            await self._answer(endpoint, scope, receive, asgi.no_store(send))

    async def _answer(self, endpoint: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        headers, body = scope["headers"], asgi.Body(receive)
        origin = asgi.header(headers, b"origin")
        if origin is not None and origin not in self._auth.origins:
            await asgi.answer(send, 403, {"error": "This origin is not allowed."})
            return
        outcome, bearer = extract(headers, scope["query_string"])
        refused = await self._refusal(scope, body, bearer, endpoint)
        if refused is not None:
            await self._turn_away(scope, send, refused, outcome)
            return
        if scope["method"] == "POST" and asgi.needs_a_look(headers):
            content = await body.read(asgi.MAX_BODY)
            if content is not None and asgi.is_misrouted(headers, content):
                error = {"code": HEADER_MISMATCH, "message": "Headers do not match the body"}
                await asgi.answer(send, 400, {"jsonrpc": "2.0", "id": None, "error": error})
                return
        await self._app(scope, body.receive, send)

    async def _refusal(
        self, scope: Scope, body: asgi.Body, bearer: str | None, endpoint: ASGIApp
    ) -> Reason | None:
        """Why a request may not come in; None where it may, as whoever it is."""
        policy = self._policy
        if bearer is None:
            if not await self._is_open(scope, body):
                return Reason.MISSING_TOKEN
        else:
            credential, reason = await policy.enforcer.pdp.authenticate(bearer, transport="http")
            if reason.reason_class is not ReasonClass.AUTHENTICATION and credential is not None:
                scope["user"] = AuthenticatedUser(access_token(credential))
                scope["auth"] = AuthCredentials()
                return None
            if reason.reason_class is ReasonClass.AUTHENTICATION and policy.enforcer.requires_auth:
                return reason
        # To FastMCP it is nobody; the policy reads the bearer by itself.
        scope[_PASSAGE] = endpoint
        return None

    async def _is_open(self, scope: Scope, body: asgi.Body) -> bool:
        """Whether somebody without a bearer may come in."""
        if scope["method"] != "POST":
            # A session's stream, and its end. Whose session it is, the SDK looks after.
            named = asgi.header(scope["headers"], _SESSION)
            return bool(named) and self._policy.enforcer.is_open("ping", "")
        found = asgi.asked(await body.read(_STRANGERS_BODY))
        return found is not None and self._policy.enforcer.is_open(*found)

    async def _turn_away(self, scope: Scope, send: Send, reason: Reason, outcome: Outcome) -> None:
        """RFC 6750 §3.1: no `error` for who may not have known that a bearer is needed."""
        status, told = 401, {"error": "invalid_token", "error_description": reason.value}
        if outcome in ("none", "malformed"):
            told = {}
        elif outcome in ("query", "repeated"):
            status, told = 400, {**told, "error": "invalid_request"}
        where = self._auth.metadata_url(scope["app"].state.path)
        said = {**told, "resource_metadata": where}
        challenge = "Bearer " + ", ".join(f'{name}="{value}"' for name, value in said.items())
        self._policy.enforcer.rejected(reason)
        await asgi.answer(send, status, told, {"www-authenticate": challenge})


class AnonymousRoute(Route):
    """To the endpoint, past FastMCP's own demand for a bearer; only for whom the door let in."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """As Starlette's; None but for requests that were let in."""
        return super().matches(scope) if _PASSAGE in scope else (Match.NONE, {})


class _Endpoint:
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await scope[_PASSAGE](scope, receive, send)


def _endpoint(scope: Scope) -> ASGIApp | None:
    """The MCP endpoint that a request is for, within FastMCP's own demand for a bearer."""
    if scope["type"] != "http":
        return None
    for route in scope["app"].routes:
        app = getattr(route, "app", None)
        if (
            isinstance(app, RequireAuthMiddleware)
            and isinstance(app.app, StreamableHTTPASGIApp)
            and route.matches(scope)[0] is Match.FULL
        ):
            return app.app
    return None
