"""Enforcement of the PDP's decisions on requests, for either SDK."""

import difflib
import logging
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import replace
from functools import cache

from cachetools import LRUCache
from prometheus_client import CollectorRegistry, Counter

from mcp_plugin.exceptions import CallDenied
from mcp_plugin.http.request import Caller, mistake_in
from mcp_plugin.http.stdio import NO_IDENTITY
from mcp_plugin.list_changes import ListChanges
from mcp_plugin.metrics import metrics
from mcp_plugin.protocol.methods import EXEMPT, LISTS, NOTIFICATIONS
from mcp_plugin.revocation import OnRevocation, Revocations
from mcp_plugin.spans import SPANS
from pdp_client import PDP, Action, Decision, Reason, ReasonClass
from pdp_client.reasons import quote

_MOST_MISSPELT = 256
"""URIs that are remembered, so that each is logged once."""

_log = logging.getLogger(__name__)


class Enforcer:
    """The component that queries the PDP and enforces its decisions on requests.

    Attributes:
        pdp: the PDP that decides.
        requires_auth: whether a bearer that fails authentication is refused.
        revocations: ends what runs when access ends.
        list_changes: notifies the sessions whose lists changed.
    """

    def __init__(
        self,
        pdp: PDP,
        *,
        require_auth: bool,
        public_tools: AbstractSet[str],
        list_without_token: bool,
        shadow: bool | AbstractSet[str],
        on_revocation: OnRevocation,
        registry: CollectorRegistry,
    ) -> None:
        """Create the enforcer. The arguments are those of `PolicyMiddleware`."""
        counted = metrics(registry)
        pdp.observe(counted)
        pdp.observe(SPANS)
        self.pdp = pdp
        self.requires_auth = require_auth
        self._public_tools = self._unchecked = frozenset(public_tools)
        self._list_without_token = list_without_token
        self._shadow = shadow if isinstance(shadow, bool) else frozenset(shadow)
        self.revocations = Revocations(
            pdp, counted, requires_auth=require_auth, on_revocation=on_revocation
        )
        self.list_changes = ListChanges(self.visible)
        self.revocations.on_new_state = self.list_changes.registry_moved
        self._failures = _failures(registry)
        self._misspelt: LRUCache[str, None] = LRUCache(_MOST_MISSPELT)
        if self._shadow:
            names = "everything" if self._shadow is True else ", ".join(sorted(self._shadow))
            _log.warning("mcp_auth.shadow refusals stop nothing for: %s", names)

    def is_public(self, action: Action) -> bool:
        """Return whether any caller may take the action, without a decision."""
        return action.method == "tools/call" and action.name in self._public_tools

    def check_public_tools(self, names: AbstractSet[str]) -> None:
        """Log, once, names of public tools that the server does not have.

        Args:
            names: the names of all tools that the server lists.
        """
        for name in sorted(self._unchecked - names):
            close = difflib.get_close_matches(name, names, n=1)
            hint = f"; did you mean {quote(close[0])}?" if close else ""
            _log.warning(
                "mcp_auth.public_tools %s is not a tool of this server%s", quote(name), hint
            )
        self._unchecked = frozenset()

    def is_open(self, method: str, name: str) -> bool:
        """Return whether a method may return something to an anonymous caller.

        Args:
            method: the MCP method.
            name: the component that the request is about, if it is about one.
        """
        if not self.requires_auth:
            return True
        if method == "tools/call":
            return name in self._public_tools
        if method in LISTS - {"tools/list"}:
            return self._list_without_token
        known = EXEMPT | NOTIFICATIONS | {"tools/list"}
        return method in known and (self._list_without_token or bool(self._public_tools))

    def allow_public(self, caller: Caller, name: str) -> Decision:
        """Return the decision for a public tool.

        Raises:
            CallDenied: the decision could not be recorded.
        """
        decision = self.pdp.allow_public(tool=name, transport=caller.transport)
        if not decision.allow:
            raise self._refused(decision, Action(name=name))
        return decision

    async def enforce(self, caller: Caller, action: Action) -> Decision:
        """Decide an action, and return the decision that lets it run.

        Raises:
            CallDenied: the action is denied.
        """
        decision, passes = await self._decide(caller, action)
        if not passes:
            raise self._refused(decision, action, hint=mistake_in(caller.bearer))
        if decision.shadowed:
            _log.info("mcp_auth.would_deny %s reason=%s", named(action), decision.reason)
        return decision

    async def refuse_spelling(self, caller: Caller, action: Action) -> None:
        """Record the refusal of a resource whose URI is spelt in another way than its own.

        To a caller whose bearer is good, the resource then does not exist.

        Raises:
            CallDenied: the caller's bearer is refused.
        """
        decision = await self.pdp.decide(
            caller.bearer, action, transport=caller.transport, undecidable=True
        )
        if action.name not in self._misspelt:
            self._misspelt[action.name] = None
            _log.warning(
                "mcp_auth.misspelt %s: only a resource's own URI, or the one that its template "
                "would write, is decided on", named(action),
            )  # fmt: skip
        if self.requires_auth and decision.reason_class is ReasonClass.AUTHENTICATION:
            raise self._refused(decision, action)
        self._count(decision.reason)

    async def require_authenticated(self, caller: Caller) -> None:
        """Require a bearer that is valid now, for requests that need no other grant.

        Raises:
            CallDenied: there is no valid bearer, or its validity cannot be determined.
        """
        _, reason = await self.pdp.authenticate(caller.bearer, transport=caller.transport)
        if reason is not Reason.OK:
            action = Action(method="authenticate", name="")
            raise self._refused(Decision.refused(reason, reason.value), action)

    async def visible(self, caller: Caller, actions: Sequence[Action]) -> frozenset[int]:
        """Return the positions of the actions that the caller may see, with one query for all.

        Args:
            caller: the caller that lists them.
            actions: the action of using each entry of the list.
        """
        # What every caller sees is not part of the query, so the record does not call it hidden.
        asked = [
            i
            for i, action in enumerate(actions)
            if not self._public_tools or not self.is_public(action)
        ]
        public = frozenset(range(len(actions))).difference(asked)
        shown = await self.pdp.visible(
            caller.bearer,
            actions=[actions[i] for i in asked],
            transport=caller.transport,
            shadow={n for n, i in enumerate(asked) if self.watches(actions[i])}
            if self._shadow
            else frozenset(),
        )
        unauthenticated = shown.reason.reason_class is ReasonClass.AUTHENTICATION
        if unauthenticated and not self._list_without_token:
            return public
        return public | {asked[n] for n in shown.indices}

    def rejected(self, reason: Reason, *, hint: str = "") -> None:
        """Count and log a request that was rejected before a decision.

        Args:
            reason: why.
            hint: what is wrong with the client's configuration, if that shows.
        """
        self._count(reason)
        _log.info("mcp_auth.rejected reason=%s%s", reason, _hinted(hint))

    async def _decide(self, caller: Caller, action: Action) -> tuple[Decision, bool]:
        """Return the decision, and whether the request may run on it."""

        async def decide(bearer: str | None) -> Decision:
            return await self.pdp.decide(
                bearer, action, transport=caller.transport, shadow=self.watches(action)
            )

        decision = await decide(caller.bearer)
        if decision.reason is Reason.MISSING_TOKEN and caller.transport == "stdio":
            decision = replace(decision, message=NO_IDENTITY)
        if self.requires_auth or decision.reason_class is not ReasonClass.AUTHENTICATION:
            return decision, decision.runs
        # For a bearer that Python refuses, lockdown, outages and site rules were not checked: the
        # request may run only where one without a bearer would.
        anonymous = decision if caller.bearer is None else await decide(None)
        passes = anonymous.reasons == (Reason.MISSING_TOKEN,)
        if passes and caller.bearer is not None:
            self._count(decision.reason)
        return anonymous, passes

    def watches(self, action: Action) -> bool:
        """Return whether an action is in shadow mode."""
        if isinstance(self._shadow, bool):
            return self._shadow
        return action.method == "tools/call" and action.name in self._shadow

    def _refused(self, decision: Decision, action: Action, *, hint: str = "") -> CallDenied:
        self._count(decision.reason)
        _log.info("mcp_auth.denied %s reason=%s%s", named(action), decision.reason, _hinted(hint))
        return CallDenied(decision)

    def _count(self, reason: Reason) -> None:
        self._failures.labels(reason=reason.value).inc()


def _hinted(hint: str) -> str:
    return f" bearer={hint!r}" if hint else ""


def named(action: Action) -> str:
    """Return the name of an action in log lines."""
    if action.method == "tools/call":
        return f"tool={quote(action.name)}"
    return f"method={action.method} name={quote(action.name)}"


@cache
def _failures(registry: CollectorRegistry) -> Counter:
    # Servers in one process share the counter; a registry accepts a name only once.
    return Counter(
        "mcp_auth_failures",
        "Requests refused, and bad bearers let through, by reason.",
        ["reason"],
        registry=registry,
    )
