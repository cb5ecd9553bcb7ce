"""Bearer authentication for a server over HTTP: `FastMCP(auth=BearerAuth(…))`.

Unauthenticated requests receive HTTP 401 with the URL of the metadata: RFC 6750 §3, RFC 9728 §5.1,
MCP authorization. Denials of authenticated callers are returned in band: a caller's rights are in
the registry, so requesting another scope would not help, and `insufficient_scope` is never sent.
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
from mcp.shared.inbound import MCP_PROTOCOL_VERSION_HEADER
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
from mcp_plugin.http.request import Outcome, extract, mistake_in
from mcp_plugin.http.sessions import bind_sessions
from mcp_plugin.http.streams import guard_response
from mcp_plugin.middleware import PolicyMiddleware
from mcp_plugin.protocol.param_headers import compare_nothing
from mcp_plugin.spans import joined
from pdp_client import Credential, Reason, ReasonClass
from pdp_client.reasons import message

_ANONYMOUS_ROUTE: Final = "lictor.anonymous_route"

_log = logging.getLogger(__name__)


class BearerAuth(AuthProvider):
    """An authentication provider that rejects requests without a valid bearer.

    The response is 401 and names the metadata. BearerAuth verifies bearers as the policy's PDP
    does, opaque tokens too, and queries the PDP whether the bearer is valid *now*. The policy still
    decides every request, on the bearer itself. Anonymous callers are admitted for what the policy
    shows to every caller. In an outage every caller is admitted and then refused in band: a 401
    would make clients discard valid tokens.
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
        """Create the provider for a policy.

        Args:
            policy: decides the admitted requests; without it in its middleware, the server admits
                no caller.
            base_url: where clients find the server, without the path of its endpoint.
            authorization_servers: URLs of the servers that mint its bearers (RFC 8414); empty if
                operators issue the bearers.
            allowed_origins: pages that may call it from a browser, besides those at `base_url`.
            name: the server's name, for people.
            documentation: URL of a page on how to get a bearer, for people.

        Raises:
            ConfigurationError: a URL is invalid.
        """
        self.origins = asgi.origins([base_url, *allowed_origins])
        super().__init__(base_url=base_url)
        self.policy = policy
        self.documentation = documentation
        self._authorization_servers = [*authorization_servers]
        self._described = {
            key: value
            for key, value in (("resource_name", name), ("resource_documentation", documentation))
            if value is not None
        }

    async def verify_token(self, token: str) -> AccessToken | None:
        """Return FastMCP's access token for a valid bearer; None for an invalid one."""
        return await verified(self.policy.enforcer, token)

    def get_middleware(self) -> list[Any]:
        """Return the middleware that authenticates bearers, for the application."""
        return [Middleware(BearerAuthMiddleware, auth=self), Middleware(AuthContextMiddleware)]

    def get_routes(self, mcp_path: str | None = None) -> list[Route]:
        """Return the metadata's route and the route for anonymous callers."""
        self.set_mcp_path(mcp_path)
        described = {
            # A URL parser adds the slash of a root, which is not part of what clients connect to.
            "resource": str(self._get_resource_url(mcp_path)).rstrip("/"),
            "bearer_methods_supported": ["header"],
            **self._described,
        }
        # MCP requires one, RFC 9728 does not; naming one that does not exist would not help.
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
        """Return the URL of an endpoint's metadata (RFC 9728 §3.1)."""
        resource = self._get_resource_url(mcp_path)
        assert resource is not None, "there is a base_url"  # noqa: S101 - for the type alone
        return str(build_resource_metadata_url(resource))


async def verified(enforcer: Enforcer, token: str) -> AccessToken | None:
    """Return FastMCP's and the SDK's access token for a valid bearer; None for an invalid one."""
    credential, reason = await enforcer.pdp.authenticate(token, transport="http")
    if credential is None or reason.reason_class is ReasonClass.AUTHENTICATION:
        return None
    return access_token(credential)


def access_token(credential: Credential) -> AccessToken:
    """Return what FastMCP keeps of a caller; it owns sessions and is named in traces.

    It does not contain the bearer, which tools must not use (MCP, Token Passthrough).
    """
    # FastMCP separates tasks by `client_id` and this claim; a label is too short to be unique.
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
    """ASGI middleware that authenticates requests to the MCP endpoint, and only those."""

    def __init__(self, app: ASGIApp, *, auth: BearerAuth) -> None:
        self._app = app
        self._auth = auth
        self._policy = auth.policy

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Forward a request, or respond in place of the endpoint."""
        endpoint = _endpoint(scope)
        if endpoint is None:
            await self._app(scope, receive, send)
            return
        server = scope["app"].state.fastmcp_server
        if not any(one is self._policy for one in server.middleware):
            # Any authenticated caller would be allowed everything.
            _log.error("mcp_auth.unguarded the policy is not in the server's middleware; add it")
            await asgi.respond(send, 500, {"error": "This server has no policy."})
            return
        # The policy does so too, but the SDK compares before it, even on the first request.
        compare_nothing(sdk_server(server))
        manager = getattr(endpoint, "session_manager", None)
        if manager is not None and not manager.stateless:
            bind_sessions(manager, self._policy.enforcer)
        with joined(scope["headers"]):
            await self._answer(endpoint, scope, receive, asgi.no_store(send))

    async def _answer(self, endpoint: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        headers, body = scope["headers"], asgi.RequestBody(receive)
        origin = asgi.header(headers, b"origin")
        if origin is not None and origin not in self._auth.origins:
            await asgi.respond(send, 403, {"error": "This origin is not allowed."})
            return
        outcome, bearer = extract(headers, scope["query_string"])
        refused = await self._refusal(scope, body, bearer, endpoint)
        if refused is not None:
            hint = mistake_in(bearer) if outcome == "bearer" else ""
            await self._turn_away(scope, send, refused, outcome, hint=hint)
            return
        if asgi.is_repeated(headers, MCP_PROTOCOL_VERSION_HEADER):
            await self._mismatch(send, origin)
            return
        if scope["method"] == "POST" and asgi.needs_a_look(headers):
            content = await body.read(asgi.MAX_BODY)
            if content is not None and asgi.is_misrouted(headers, content):
                await self._mismatch(send, origin)
                return
        await guard_response(
            self._app,
            scope,
            body.receive,
            send,
            enforcer=self._policy.enforcer,
            bearer=bearer,
            was_valid="user" in scope,
        )

    async def _refusal(
        self, scope: Scope, body: asgi.RequestBody, bearer: str | None, endpoint: ASGIApp
    ) -> Reason | None:
        """Return why a request is rejected; None if it is admitted, authenticated or anonymous."""
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
        # To FastMCP the request is unauthenticated; the policy reads the bearer by itself.
        scope[_ANONYMOUS_ROUTE] = endpoint
        return None

    async def _is_open(self, scope: Scope, body: asgi.RequestBody) -> bool:
        """Return whether the request is open to anonymous callers."""
        if scope["method"] != "POST":
            return self._in_open_session(scope)  # its stream, or its end
        if not self._policy.enforcer.requires_auth:
            return True
        sent = asgi.message_in(await body.read(asgi.MAX_BODY))
        if asgi.is_reply(sent):
            # To a request that the server sent within a session, as while a public tool runs.
            return self._in_open_session(scope)
        found = asgi.method_and_name(sent)
        return found is not None and self._policy.enforcer.is_open(*found)

    def _in_open_session(self, scope: Scope) -> bool:
        """Return whether a request names a session, and anonymous callers may have one.

        The SDK checks which caller owns the session.
        """
        named = asgi.header(scope["headers"], asgi.SESSION)
        return bool(named) and self._policy.enforcer.is_open("ping", "")

    async def _mismatch(self, send: Send, origin: str | None) -> None:
        error = {"code": HEADER_MISMATCH, "message": "Headers do not match the body"}
        document = {"jsonrpc": "2.0", "id": None, "error": error}
        await asgi.respond(send, 400, document, asgi.cors(origin))

    async def _turn_away(
        self, scope: Scope, send: Send, reason: Reason, outcome: Outcome, *, hint: str
    ) -> None:
        """Reject a request; the challenge has no `error` if it lacks a bearer (RFC 6750 §3.1)."""
        status, error = 401, {"error": "invalid_token", "error_description": reason.value}
        if outcome in ("none", "malformed"):
            error = {}
        elif outcome in ("query", "repeated"):
            status, error = 400, {**error, "error": "invalid_request"}
        where = self._auth.metadata_url(scope["app"].state.path)
        said = {**error, "resource_metadata": where}
        challenge = "Bearer " + ", ".join(f'{name}="{value}"' for name, value in said.items())
        self._policy.enforcer.rejected(reason, hint=hint)
        origin = asgi.header(scope["headers"], b"origin")
        await asgi.respond(
            send,
            status,
            {**error, "message": self._advice(reason, outcome, hint)},
            {"www-authenticate": challenge, **asgi.cors(origin)},
        )

    def _advice(self, reason: Reason, outcome: Outcome, hint: str) -> str:
        """Return what the person behind the client can do."""
        found = {
            "none": "This server needs a bearer token.",
            "malformed": "The Authorization header does not begin with Bearer.",
            "query": "A bearer in the URL is not accepted, and may have been logged: replace it.",
            "repeated": "The request has several Authorization headers.",
        }.get(outcome, message(reason) or reason.value)
        if hint:
            found = f"{found} The header holds {hint}."
        more = self._auth.documentation
        where = f" See {more}." if more else ""
        return f"{found} Send the header: Authorization: Bearer <token>.{where}"


class AnonymousRoute(Route):
    """A route that bypasses FastMCP's own bearer check, for requests already admitted."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Match as Starlette does, but only admitted requests."""
        return super().matches(scope) if _ANONYMOUS_ROUTE in scope else (Match.NONE, {})


class _Endpoint:
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await scope[_ANONYMOUS_ROUTE](scope, receive, send)


def _endpoint(scope: Scope) -> ASGIApp | None:
    """Return the MCP endpoint of a request, inside FastMCP's own bearer check."""
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
