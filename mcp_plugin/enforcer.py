"""Requests against the PDP's decisions, whatever SDK they came through."""

import logging
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import replace
from functools import cache

from prometheus_client import CollectorRegistry, Counter

from mcp_plugin.exceptions import CallDenied
from mcp_plugin.http.request import Caller
from mcp_plugin.http.stdio import NO_IDENTITY
from mcp_plugin.metrics import metrics
from mcp_plugin.protocol.methods import EXEMPT, LISTS, NOTIFICATIONS
from mcp_plugin.spans import SPANS
from pdp_client import PDP, Action, Decision, Reason, ReasonClass
from pdp_client.reasons import quote

_log = logging.getLogger(__name__)


class Enforcer:
    """Asks the PDP, and says what a request may do.

    Attributes:
        pdp: the one asked.
        requires_auth: whether a bearer that fails authentication is refused.
    """

    def __init__(
        self,
        pdp: PDP,
        *,
        require_auth: bool,
        public_tools: AbstractSet[str],
        list_without_token: bool,
        shadow: bool | AbstractSet[str],
        registry: CollectorRegistry,
    ) -> None:
        """Ask nothing yet. The arguments are those of `PolicyMiddleware`."""
        pdp.observe(metrics(registry))
        pdp.observe(SPANS)
        self.pdp = pdp
        self.requires_auth = require_auth
        self._public_tools = frozenset(public_tools)
        self._list_without_token = list_without_token
        self._shadow = shadow if isinstance(shadow, bool) else frozenset(shadow)
        self._failures = _failures(registry)
        if self._shadow:
            names = "everything" if self._shadow is True else ", ".join(sorted(self._shadow))
            _log.warning("mcp_auth.shadow refusals stop nothing for: %s", names)

    def is_public(self, action: Action) -> bool:
        """Whether anybody may do it, unasked."""
        return action.method == "tools/call" and action.name in self._public_tools

    def is_open(self, method: str, name: str) -> bool:
        """Whether there may be something in it for a caller without a bearer.

        Args:
            method: the MCP method.
            name: what it is about, where it is about one thing.
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
        """The decision for a public tool.

        Raises:
            CallDenied: it could not be put on record.
        """
        decision = self.pdp.allow_public(tool=name, transport=caller.transport)
        if not decision.allow:
            raise self._refused(decision, Action(name=name))
        return decision

    async def enforce(self, caller: Caller, action: Action) -> Decision:
        """The decision on which an action may run.

        Raises:
            CallDenied: the decision is no.
        """
        decision, passes = await self._decide(caller, action)
        if not passes:
            raise self._refused(decision, action)
        if decision.shadowed:
            _log.info("mcp_auth.would_deny %s reason=%s", named(action), decision.reason)
        return decision

    async def require_authenticated(self, caller: Caller) -> None:
        """Let pass whoever has a bearer that is good now, for what needs no other grant.

        Raises:
            CallDenied: there is none, or nobody can say.
        """
        _, reason = await self.pdp.authenticate(caller.bearer, transport=caller.transport)
        if reason is not Reason.OK:
            action = Action(method="authenticate", name="")
            raise self._refused(Decision.refused(reason, reason.value), action)

    async def visible(self, caller: Caller, actions: Sequence[Action]) -> frozenset[int]:
        """The positions of the actions that the caller may see, with one query for all of them.

        Args:
            caller: who asks.
            actions: what using each entry of the list would be.
        """
        # What anybody sees is no part of the question, so that the record does not call it hidden.
        asked = [i for i, action in enumerate(actions) if not self.is_public(action)]
        public = frozenset(range(len(actions))).difference(asked)
        shown = await self.pdp.visible(
            caller.bearer,
            actions=[actions[i] for i in asked],
            transport=caller.transport,
            shadow={n for n, i in enumerate(asked) if self.watches(actions[i])},
        )
        unauthenticated = shown.reason.reason_class is ReasonClass.AUTHENTICATION
        if unauthenticated and not self._list_without_token:
            return public
        return public | {asked[n] for n in shown.indices}

    def rejected(self, reason: Reason) -> None:
        """Count and log a request that did not get as far as a decision."""
        self._count(reason)
        _log.info("mcp_auth.rejected reason=%s", reason)

    async def _decide(self, caller: Caller, action: Action) -> tuple[Decision, bool]:
        """The decision, and whether the request may run on it."""

        async def ask(bearer: str | None) -> Decision:
            return await self.pdp.decide(
                bearer, action, transport=caller.transport, shadow=self.watches(action)
            )

        decision = await ask(caller.bearer)
        if decision.reason is Reason.MISSING_TOKEN and caller.transport == "stdio":
            decision = replace(decision, message=NO_IDENTITY)
        if self.requires_auth or decision.reason_class is not ReasonClass.AUTHENTICATION:
            return decision, decision.runs
        # A bearer that Python refuses never got as far as lockdown, outages and site rules: it may
        # pass only where no bearer at all would.
        anonymous = decision if caller.bearer is None else await ask(None)
        passes = anonymous.reasons == (Reason.MISSING_TOKEN,)
        if passes and caller.bearer is not None:
            self._count(decision.reason)
        return anonymous, passes

    def watches(self, action: Action) -> bool:
        """Whether an action is in shadow mode."""
        if isinstance(self._shadow, bool):
            return self._shadow
        return action.method == "tools/call" and action.name in self._shadow

    def _refused(self, decision: Decision, action: Action) -> CallDenied:
        self._count(decision.reason)
        _log.info("mcp_auth.denied %s reason=%s", named(action), decision.reason)
        return CallDenied(decision)

    def _count(self, reason: Reason) -> None:
        self._failures.labels(reason=reason.value).inc()


def named(action: Action) -> str:
    """How log lines name an action."""
    if action.method == "tools/call":
        return f"tool={quote(action.name)}"
    return f"method={action.method} name={quote(action.name)}"


@cache
def _failures(registry: CollectorRegistry) -> Counter:
    # Servers in one process share the counter; a registry takes a name only once.
    return Counter(
        "mcp_auth_failures",
        "Requests refused, and bad bearers let through, by reason.",
        ["reason"],
        registry=registry,
    )
