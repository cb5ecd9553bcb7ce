"""Evaluate a decision: verify the bearer, check the cache, query OPA.

The way to OPA: `PDP.decide`, `Evaluator.decide`, `DecisionCache.get_or_query`,
`OPAClient.query_until_current`, `Transport.query`, a connection.
"""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Literal, Protocol

from cachetools import LRUCache

from pdp_client.bearer.replay import ReplayGuard
from pdp_client.bearer.verification_cache import VerificationCache, Verified
from pdp_client.bearer.verifier import Credential
from pdp_client.decision import Action, Callers, Context, Decision, Visible
from pdp_client.exceptions import BearerRejected, EvaluationError, PDPError, RuleError
from pdp_client.freshness.cache import DecisionCache, State
from pdp_client.freshness.revision import LatestRevision, RevisionSource
from pdp_client.opa.client import OPAClient
from pdp_client.opa.limits import fitting, is_too_large
from pdp_client.opa.query import CacheableQuery, CallersQuery, DecisionQuery, Response, VisibleQuery
from pdp_client.reasons import Reason, message
from pdp_client.usage import UsageCounter

Consistency = Literal["bounded", "strict"]
"""`bounded`: a decision is never older than the staleness limit, and mostly milliseconds old.
`strict`: it is made from a state that holds every write which had returned when the call began."""

_ANONYMOUS: Mapping[str, Any] = {"kind": "anonymous"}
_REJECTED: Mapping[str, Any] = {"kind": "anonymous", "rejected": True}
_MOST_GUESSES = 1024
_log = logging.getLogger(__name__)


class SharedState(Protocol):
    """The state that instances share; `pdp_client.shared.Shared` implements it with Redis.

    Attributes:
        newest: the source of the registry's latest revision.
        replay: remembers per-turn tokens.
        usage: counts the use of tokens.
    """

    @property
    def newest(self) -> RevisionSource: ...

    @property
    def replay(self) -> ReplayGuard: ...

    @property
    def usage(self) -> UsageCounter: ...

    async def aclose(self) -> None:
        """Release all of it."""
        ...


class Evaluator:
    """Evaluates decisions and lists for one process, within a deadline, at one consistency."""

    def __init__(
        self,
        opa: OPAClient,
        bearers: VerificationCache,
        *,
        replay: ReplayGuard,
        revisions: RevisionSource | None,
        strict: bool,
        decisions: DecisionCache[Decision] | None,
        lists: DecisionCache[Visible] | None,
        deadline: float,
    ) -> None:
        """Create the evaluator from its parts.

        Args:
            opa: the client that queries OPA.
            bearers: verifies bearers.
            replay: remembers per-turn tokens.
            revisions: the source of the registry's latest revision; for `strict` and the caches.
            strict: whether to read the latest revision before each decision.
            decisions: caches decisions; None queries OPA each time.
            lists: caches which entries of lists are visible, likewise.
            deadline: seconds for a decision.
        """
        self._opa = opa
        self._bearers = bearers
        self._replay = replay
        self._revisions = revisions
        self._strict = strict
        self._decisions = decisions
        self._lists = lists
        self._deadline = deadline
        # Where to begin, by a hash of the action's name; what a response says is what counts.
        self._sends_arguments: LRUCache[int, bool] = LRUCache(_MOST_GUESSES)

    async def decide(
        self, bearer: str | None, action: Action, context: Context, *, undecidable: bool = False
    ) -> tuple[Credential | None, Decision, int | None]:
        """Decide a call. Never raises for a denial or an outage.

        Args:
            bearer: the caller's.
            action: what it wants to do.
            context: the context of the action.
            undecidable: see `PDP.decide`.

        Returns:
            The credential that the bearer proved, if any; the decision; and the current age of its
            data in milliseconds, which for a cached decision is more than the decision says.
        """
        verified = None
        try:
            if bearer is not None:
                verified = self._bearers.verify(bearer)
            if undecidable or is_too_large(action):
                credential = verified.credential if verified else None
                return credential, _refused_without_opa(credential, action), None
            query = self._decision_query(verified, action, context)
            found = self._cached(verified, query)
            if found is None:
                async with asyncio.timeout(self._deadline):
                    if verified is not None:
                        await self._replay.check(verified.credential)
                    found = await self._evaluate(self._decisions, verified, query)
                    if found[0].reason is not Reason.BEHIND and query.is_about_arguments(found[0]):
                        query = replace(query, with_arguments=True)
                        found = await self._evaluate(self._decisions, verified, query)
            decision, since_ms = found
            age_ms = None if decision.data_age_ms is None else decision.data_age_ms + since_ms
        except BearerRejected as error:
            return None, Decision.refused(error.reason, error.message), None
        except (PDPError, TimeoutError) as error:
            log_outage(error)
            refused = Decision.refused(Reason.UNAVAILABLE)
            decision, age_ms = replace(refused, errors=_rule_errors(error)), None
        return verified.credential if verified else None, decision, age_ms

    async def find_visible(
        self, bearer: str | None, actions: Sequence[Action], context: Context
    ) -> tuple[Credential | None, Visible]:
        """Decide which actions of a list are visible. Never raises for a denial or an outage.

        For a refused bearer, the actions that the registry's settings list for it are visible.

        Returns:
            The credential that the bearer proved, if any, and what is visible.
        """
        verified = rejected = None
        try:
            async with asyncio.timeout(self._deadline):
                try:
                    verified = await self._verified(bearer)
                except BearerRejected as error:
                    rejected = error.reason
                visible = await self._visible(verified, actions, context, rejected=bool(rejected))
        except (PDPError, TimeoutError) as error:
            log_outage(error)
            visible = Visible(indices=(), reason=Reason.UNAVAILABLE, errors=_rule_errors(error))
        if rejected and visible.reason is Reason.MISSING_TOKEN:
            visible = replace(visible, reason=rejected)
        return verified.credential if verified else None, visible

    async def authenticate(
        self, bearer: str | None, context: Context
    ) -> tuple[Credential | None, Visible]:
        """Verify a bearer as `find_visible` does; Python's refusals also hold in an outage."""
        verified = None
        try:
            async with asyncio.timeout(self._deadline):
                verified = await self._verified(bearer)
                visible = await self._visible(verified, (), context)
        except BearerRejected as error:
            return None, Visible(indices=(), reason=error.reason)
        except (PDPError, TimeoutError) as error:
            log_outage(error)
            visible = Visible(indices=(), reason=Reason.UNAVAILABLE, errors=_rule_errors(error))
        return verified.credential if verified else None, visible

    async def authenticate_all(
        self, bearers: Sequence[str], context: Context
    ) -> tuple[list[tuple[Credential | None, Reason]], Callers]:
        """Check several bearers as `authenticate` does one, with one query for all of them.

        Returns:
            For each bearer, the credential that it proved, if any, and why it is refused or `ok`;
            and OPA's response.
        """
        found: list[Verified | Reason] = []
        try:
            async with asyncio.timeout(self._deadline):
                for bearer in bearers:
                    # One by one: what is found before the time is up counts.
                    found.append(await self._verified_or_reason(bearer))  # noqa: PERF401
                latest = await self._revisions.read() if self._strict and self._revisions else None
                sent = [one.opa_input for one in found if isinstance(one, Verified)]
                callers = await self._opa.query_until_current(
                    CallersQuery(credentials=sent, context=context),
                    latest.version if latest else None,
                )
        except (PDPError, TimeoutError) as error:
            log_outage(error)
            callers = Callers(reason=Reason.UNAVAILABLE)
            found += [Reason.UNAVAILABLE] * (len(bearers) - len(found))
        reasons = iter(callers.reasons)
        checked: list[tuple[Credential | None, Reason]] = [
            (one.credential, next(reasons, callers.reason))
            if isinstance(one, Verified)
            else (None, one)
            for one in found
        ]
        return checked, callers

    async def aclose(self) -> None:
        """Wait for the queries under way."""
        for cache in (self._decisions, self._lists):
            if cache is not None:
                await cache.aclose()

    async def _verified(self, bearer: str | None) -> Verified | None:
        """Return the verified bearer; None without one.

        Raises:
            PDPError: the bearer is refused, or it cannot be checked for replay.
        """
        if bearer is None:
            return None
        verified = self._bearers.verify(bearer)
        await self._replay.check(verified.credential)
        return verified

    async def _verified_or_reason(self, bearer: str) -> Verified | Reason:
        try:
            verified = self._bearers.verify(bearer)
            await self._replay.check(verified.credential)
        except BearerRejected as error:
            return error.reason
        return verified

    async def _visible(
        self,
        verified: Verified | None,
        actions: Sequence[Action],
        context: Context,
        *,
        rejected: bool = False,
    ) -> Visible:
        credential = _REJECTED if rejected else verified.opa_input if verified else _ANONYMOUS
        positions = fitting(actions) if any(map(is_too_large, actions)) else None
        if positions is not None:
            actions = [actions[index] for index in positions]
        query = VisibleQuery(credential=credential, actions=actions, context=context)
        visible, _ = await self._evaluate(self._lists, verified, query, rejected=rejected)
        if positions is not None:
            return replace(visible, indices=tuple(positions[n] for n in visible.indices))
        return visible

    def _decision_query(
        self, verified: Verified | None, action: Action, context: Context
    ) -> DecisionQuery:
        return DecisionQuery(
            credential=verified.opa_input if verified else _ANONYMOUS,
            action=action,
            context=context,
            with_arguments=self._sends_arguments.get(_guess_key(action), False),
        )

    async def _evaluate(
        self,
        cache: DecisionCache[Response] | None,
        verified: Verified | None,
        query: CacheableQuery[Response],
        *,
        rejected: bool = False,
    ) -> tuple[Response, int]:
        """Return the cached response for the registry's known state, or query OPA.

        Returns:
            The response, and the milliseconds since it was made.

        Raises:
            PDPError: there was no response, or the registry's latest revision is unknown.
            TimeoutError: OPA took too long to respond to a query shared by several callers.
        """
        latest = await self._revisions.read() if self._strict and self._revisions else None
        min_version = latest.version if latest else None
        state = key = None
        # A cached decision on a per-turn token would not be checked for replay.
        if cache is not None and not (verified and verified.credential.is_per_turn):
            state = self._state(latest) if latest else self._known_state()
            key = query.cache_key("rejected" if rejected else _credential_key(verified))
        if isinstance(query, DecisionQuery):
            # Forgotten until a response says it again: otherwise, arguments that cannot be sent
            # would prevent the discovery that rules no longer read them.
            self._sends_arguments.pop(_guess_key(query.action), None)
        if cache is None or state is None or key is None:
            found = await self._opa.query_until_current(query, min_version), 0
        else:
            found = await cache.get_or_query(
                state,
                key,
                # All waiting callers have deadlines of their own; the query outlives each of them.
                partial(self._opa.query_until_current, query, min_version, timeout=self._deadline),
            )
        if isinstance(query, DecisionQuery) and isinstance(found[0], Decision):
            self._sends_arguments[_guess_key(query.action)] = found[0].uses_arguments
        return found

    def _cached(
        self, verified: Verified | None, query: DecisionQuery
    ) -> tuple[Decision, int] | None:
        """Return what is cached for a call, if this is known without waiting."""
        if self._decisions is None or (verified and verified.credential.is_per_turn):
            return None
        state = self._known_state()
        if state is None:
            return None
        found = self._cached_in(state, verified, query)
        if found is None or not query.is_about_arguments(found[0]):
            return found
        return self._cached_in(state, verified, replace(query, with_arguments=True))

    def _cached_in(
        self, state: State, verified: Verified | None, query: DecisionQuery
    ) -> tuple[Decision, int] | None:
        key = query.cache_key(_credential_key(verified))
        return None if key is None or self._decisions is None else self._decisions.get(state, key)

    def _known_state(self) -> State | None:
        """Return the registry's state if it is known without a read; None in `strict`."""
        if self._strict or self._revisions is None:
            return None
        self._revisions.start_watching()
        latest = self._revisions.cached()
        return self._state(latest) if latest else None

    def _state(self, latest: LatestRevision) -> State | None:
        # Redis may be late. A newer response from OPA invalidates what was cached before.
        return latest.state if latest.version >= self._opa.observed_version else None


def _guess_key(action: Action) -> int:
    return hash((action.method, action.name))


def _credential_key(verified: Verified | None) -> str:
    return verified.cache_key if verified else ""


def _rule_errors(error: BaseException) -> tuple[RuleError, ...]:
    return error.errors if isinstance(error, EvaluationError) else ()


def _refused_without_opa(credential: Credential | None, action: Action) -> Decision:
    """Return the denial of an action that no grant covers."""
    if credential is None:
        return Decision.refused(Reason.MISSING_TOKEN)
    text = message(Reason.TOOL_NOT_ALLOWED, tool=action.name)
    return Decision.refused(Reason.TOOL_NOT_ALLOWED, text)


def log_outage(error: BaseException) -> None:
    """Log why something could not be decided, or not be recorded."""
    code = error.code if isinstance(error, PDPError) else "deadline"
    _log.warning("pdp.unavailable code=%s detail=%s", code, error)
