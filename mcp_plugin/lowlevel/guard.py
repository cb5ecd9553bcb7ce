"""The same policy for servers built with the MCP Python SDK alone."""

import functools
import logging
from collections.abc import Collection, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any

import mcp_types
from fastmcp.server.auth import AccessToken
from mcp import MCPError
from mcp.server.context import CallNext, HandlerResult
from mcp.server.lowlevel import Server
from prometheus_client import REGISTRY, CollectorRegistry
from pydantic import ValidationError
from starlette.applications import Starlette

from mcp_plugin import messages
from mcp_plugin.context import decision_scope
from mcp_plugin.denials import protocol_error, tool_result
from mcp_plugin.enforcer import Enforcer
from mcp_plugin.exceptions import PluginError
from mcp_plugin.http.bearer_auth import verified
from mcp_plugin.http.request import Caller, caller_of
from mcp_plugin.http.sessions import (
    SessionBinding,
    Sessions,
    bind_sessions,
    manager_of,
    refuse_unbound,
)
from mcp_plugin.http.stdio import StdioBearer
from mcp_plugin.lowlevel import components
from mcp_plugin.lowlevel.components import Context, member
from mcp_plugin.protocol.methods import EXEMPT, LISTS, NOTIFICATIONS
from mcp_plugin.protocol.param_headers import compare, compare_nothing, is_look_ahead
from mcp_plugin.protocol.request_state import bind_to_callers
from mcp_plugin.protocol.uris import has_dot_segment, is_canonical
from mcp_plugin.revocation import OnRevocation, may_cut
from mcp_plugin.spans import joined
from pdp_client import PDP, Action, ConfigurationError, Decision, Reason
from pdp_client.opa.limits import MAX_NAME
from pdp_client.reasons import message, quote

_log = logging.getLogger(__name__)


class PolicyGuard:
    """A policy enforcement point for the SDK's low-level server.

    ```python
    PolicyGuard(pdp).protect(server)
    ```

    A request runs only if the PDP allows it, by the rules of `PolicyMiddleware`: calls, reads,
    prompts and the like are decided, lists show what the caller may use, unknown methods are
    refused. A tool that its server does not list is not run. A resource is not read if the server
    lists neither it nor a template for it. Handlers get the decision from `current_decision`, and
    the libraries from `current_libraries`, `allowed`, `cypher` and `sql`.

    It is the SDK's `TokenVerifier` too, for `streamable_http_app(token_verifier=…)`.
    """

    def __init__(
        self,
        pdp: PDP,
        *,
        require_auth: bool = True,
        public_tools: AbstractSet[str] = frozenset(),
        list_without_token: bool = True,
        shadow: bool | AbstractSet[str] = False,
        stdio: StdioBearer | None = None,
        tags: Mapping[str, Collection[str]] | None = None,
        on_revocation: OnRevocation = "end",
        sessions: Sessions = "bound",
        registry: CollectorRegistry = REGISTRY,
    ) -> None:
        """Create the guard; `protect` applies it to a server.

        Args:
            pdp: decides; closing it remains the caller's responsibility.
            require_auth: as in `PolicyMiddleware`, like the following parameters.
            public_tools: names of tools that every caller may call and see.
            list_without_token: whether anonymous callers see what the registry's settings list for
                them.
            shadow: True, or names of tools, whose denials are only recorded.
            stdio: the bearer of messages that did not come over HTTP.
            tags: the tags that site rules see, by the tool's or prompt's name, the URI, or the
                template's text; the protocol has no tags.
            on_revocation: as in `PolicyMiddleware`.
            sessions: as in `PolicyMiddleware`. Create the application by the server's own
                `streamable_http_app`; an event store of the SDK is refused.
            registry: the registry of the metrics.
        """
        self.sessions = sessions
        self.enforcer = Enforcer(
            pdp,
            require_auth=require_auth,
            public_tools=public_tools,
            list_without_token=list_without_token,
            shadow=shadow,
            on_revocation=on_revocation,
            registry=registry,
        )
        self._stdio = stdio
        self._tags = {name: sorted(set(of)) for name, of in (tags or {}).items()}

    def protect(self, server: Server[Any]) -> None:
        """Guard a server; add other middleware before calling this."""
        server.middleware.append(_Guard(self, server))
        _bind_on_creation(server, self.enforcer, sessions=self.sessions)
        compare_nothing(server)
        bind_to_callers(server)

    async def verify_token(self, token: str) -> AccessToken | None:
        """Return the SDK's access token for a valid bearer; None for an invalid one."""
        return await verified(self.enforcer, token)

    def caller(self, request: Any) -> Caller:
        """Return the caller of a message, by the HTTP request that carried it, if any."""
        return caller_of(request, transport="stdio" if self._stdio else "", stdio=self._stdio)

    def action(
        self,
        method: str,
        name: str,
        entries: Sequence[Any],
        arguments: Mapping[str, Any] | None = None,
    ) -> Action:
        """Return the action of using a component.

        Args:
            method: the MCP method that uses it.
            name: the component's name.
            entries: its list entries: the component, or all templates that may match a URI.
            arguments: the arguments of the use.
        """
        reads = method == "resources/read"
        annotations: dict[str, Any] = {}
        for entry in entries:
            annotations |= member(entry, "annotations") or {}
        return Action(
            method=method,
            name=name,
            uri=name if reads else None,
            arguments=arguments,
            tags=self.tags(name, entries),
            annotations=annotations or None,
        )

    def tags(self, name: str, entries: Sequence[Any] = ()) -> list[str]:
        """Return the tags configured for a name, and for all templates that may match it."""
        names = {name, *(member(entry, "uriTemplate") for entry in entries)}
        return sorted({tag for one in names for tag in self._tags.get(one, ())})


def _is_spelt_as_known(uri: str, listed: Any, templates: Sequence[Any]) -> bool:
    """Return whether a URI is the listed one, or one that its templates would write.

    A handler may resolve dot segments, so a list entry with them is not taken at its word.
    """
    if listed is not None:
        return not has_dot_segment(uri)
    expands = not templates or components.matches_template(templates, uri)
    return expands and is_canonical(uri)


def _bind_on_creation(server: Server[Any], enforcer: Enforcer, *, sessions: Sessions) -> None:
    """Bind the sessions of the server's HTTP application, which may not have been made yet."""
    make = server.streamable_http_app

    @functools.wraps(make)
    def bound(**settings: Any) -> Starlette:
        if settings.get("event_store") is not None and sessions == "bound":
            # It has no notion of sessions: any caller could have another's events replayed.
            raise ConfigurationError(
                "the SDK's event store would replay any session's events to every caller; use "
                'FastMCP, which separates them, or say sessions="unbound"'
            )
        app = make(**settings)
        bind_sessions(server.session_manager, enforcer, sessions=sessions)
        return app

    server.streamable_http_app = bound  # type: ignore[method-assign]
    with suppress(RuntimeError):  # there is none yet
        bind_sessions(server.session_manager, enforcer, sessions=sessions)


class _Guard:
    """The innermost middleware of one server."""

    def __init__(self, policy: PolicyGuard, server: Server[Any]) -> None:
        self._policy = policy
        self._enforcer = policy.enforcer
        self._server = server

    async def __call__(self, ctx: Context, call_next: CallNext) -> HandlerResult:
        if ctx.request_id is None:
            if ctx.method in NOTIFICATIONS:
                return await call_next(ctx)
            _log.info("mcp_auth.refused method=%s", quote(ctx.method))
            return None
        if self._server.middleware[-1] is not self:
            # Inner middleware could change the name in the request that was decided.
            _log.error("mcp_auth.order middleware was added after the policy; add it before")
            raise MCPError(
                code=mcp_types.INTERNAL_ERROR, message=message(Reason.UNAVAILABLE)
            ) from None
        if ctx.method in EXEMPT:
            if ctx.method == "initialize":
                self._require_bound(ctx)
            return await call_next(ctx)
        with joined(ctx.request.scope["headers"] if ctx.request else ()):
            if ctx.method in LISTS:
                return await self._listed(ctx, call_next)
            return await self._used(ctx, call_next)

    def _require_bound(self, ctx: Context) -> None:
        """Refuse a session without an owner, such as one of a hand-made session manager."""
        if ctx.request is None or self._policy.sessions == "unbound":
            return
        manager = manager_of(ctx.request.scope)
        if manager is None or (
            not manager.stateless and not isinstance(manager.asgi_app, SessionBinding)
        ):
            raise refuse_unbound()

    async def _used(self, ctx: Context, call_next: CallNext) -> HandlerResult:
        try:
            caller = self._policy.caller(ctx.request)
            action, decision, found = await self._decided(ctx, caller)
            with decision_scope(decision):
                return await self._enforcer.revocations.run(
                    caller,
                    action,
                    decision,
                    functools.partial(call_next, ctx),
                    may_cut=may_cut(member(found, "_meta")),
                )
        except PluginError as refused:
            if ctx.method != "tools/call":
                raise protocol_error(refused) from None
            return tool_result(refused)

    async def _decided(self, ctx: Context, caller: Caller) -> tuple[Action, Decision, Any]:
        """Return the action of a request, the decision that allows it, and its list entry."""
        use = components.USES.get(ctx.method)
        if use is None:
            action, decision = await messages.enforce(
                self._enforcer,
                caller,
                ctx.method,
                ctx.params,
                protocol_version=ctx.protocol_version,
                describe=partial(self._described, ctx),
            )
            return action, decision, None
        lists, kind = use
        try:
            params: Any = kind.params.model_validate(ctx.params or {}, by_name=False)
        except ValidationError:
            raise MCPError(
                code=mcp_types.INVALID_PARAMS, message="Invalid request parameters"
            ) from None
        name = str(getattr(params, kind.name))
        is_short = len(name) <= MAX_NAME
        found = await components.entry(self._server, ctx, lists, name) if is_short else None
        if self._enforcer.is_public(Action(method=ctx.method, name=name)):
            decision = self._enforcer.allow_public(caller, name)
            compare(ctx, member(found, "inputSchema"))
            return Action(method=ctx.method, name=name), decision, found
        reads = ctx.method == "resources/read"
        arguments = None if reads else params.arguments or {}
        templates = []
        if reads and found is None and is_short:
            templates = await components.templates(self._server, ctx, name)
        about = templates if found is None else [found]
        action = self._policy.action(ctx.method, name, about, arguments)
        # Rules and patterns see only text: an unlisted name could also refer to another component.
        if reads and is_short and not _is_spelt_as_known(name, found, templates):
            await self._enforcer.refuse_spelling(caller, action)
            raise messages.unknown_resource(name)
        decision = await self._enforcer.enforce(caller, action)
        if ctx.method == "tools/call" and found is None:
            raise MCPError(code=mcp_types.INVALID_PARAMS, message=f"Unknown tool: {quote(name)}")
        compare(ctx, member(found, "inputSchema"))
        if reads and found is None and not templates:
            raise messages.unknown_resource(name)
        return action, decision, found

    async def _described(self, ctx: Context, action: Action) -> Action:
        """Return an action of a message with its tags; see `mcp_plugin.protocol.actions`."""
        subscribes = action.method != "completion/complete" and action.uri is not None
        if len(action.name) > MAX_NAME:
            return action
        found = await components.templates(self._server, ctx, action.name) if subscribes else []
        return replace(action, tags=self._policy.tags(action.name, found))

    async def _listed(self, ctx: Context, call_next: CallNext) -> HandlerResult:
        kind = components.KINDS[ctx.method]
        if is_look_ahead(ctx):
            return {kind.entries: []}
        result = await call_next(ctx)
        if not isinstance(result, dict):
            raise TypeError("the SDK has its results serialised when middleware sees them")
        if kind.method == "tools/call" and "nextCursor" not in result:
            names = {entry["name"] for entry in result.get(kind.entries, ())}
            self._enforcer.check_public_tools(names)
        entries = [
            entry
            for entry in result.get(kind.entries, ())
            if kind.method != "resources/read"
            or kind.name == "uriTemplate"
            or not has_dot_segment(entry[kind.name])
        ]
        actions = [self._policy.action(kind.method, entry[kind.name], [entry]) for entry in entries]
        shown = await self._enforcer.visible(self._policy.caller(ctx.request), actions)
        kept = [entry for i, entry in enumerate(entries) if i in shown]
        private = {"cacheScope": "private"} if "cacheScope" in result else {}
        return {**result, kind.entries: kept, **private}
