"""The decision point for MCP servers: it receives a bearer and an action, returns a decision."""

import time
import uuid
import warnings
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

from pdp_client.bearer.replay import ReplayGuard, ReplayMemory
from pdp_client.bearer.verification_cache import VerificationCache
from pdp_client.bearer.verifier import BearerVerifier, Credential
from pdp_client.decision import Action, Callers, Context, Decision, Visible
from pdp_client.evaluator import Consistency, Evaluator, SharedState, log_outage
from pdp_client.exceptions import ConfigurationError, PDPError
from pdp_client.freshness.cache import DecisionCache, State, state_of
from pdp_client.observer import Observer, Observers
from pdp_client.opa.client import CATCH_UP, OPAClient
from pdp_client.opa.limits import cut, is_too_large
from pdp_client.opa.transport import Transport, open_transport
from pdp_client.reasons import Reason, ReasonClass
from pdp_client.record import DecisionRecord, entry, list_entry

DEADLINE = 0.5
"""Seconds for a whole decision, including connecting."""

_DECISIONS, _LISTS = 10_000, 1_000  # cached; a list is a hundred times as large


class PDP:
    """A policy decision point that queries OPA. Any failure is a denial with its reason.

    One PDP serves a whole process, from one event loop. Use it as an async context manager, or call
    `aclose` at the end.
    """

    def __init__(
        self,
        *,
        opa_url: str,
        verifier: BearerVerifier,
        opa_token_file: str | Path | None = None,
        opa_client_cert: tuple[str, str] | None = None,
        deadline: float = DEADLINE,
        server: str = "",
        record: DecisionRecord | None = None,
        shared: SharedState | None = None,
        consistency: Consistency = "bounded",
        catch_up: float = CATCH_UP,
        cache: bool = False,
        replay: ReplayGuard | None = None,
        opa_transport: Transport | None = None,
        road: Transport | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Create the decision point; it connects on the first query.

        Args:
            opa_url: `unix:///path/to/opa.sock`, `http://host:port` or `https://host:port`.
            verifier: verifies bearers, and knows the accepted issuers.
            opa_token_file: holds the bearer that OPA requires; read once, here.
            opa_client_cert: certificate and key files, for mutual TLS.
            deadline: seconds for a whole decision.
            server: this MCP server's name, for rules and records.
            record: where each decision is written before it takes effect; None records nothing.
            shared: the state that this instance shares with others; closed with this PDP.
            consistency: `strict` needs `shared`.
            catch_up: seconds for which an OPA that is behind is queried again.
            cache: reuse responses to equal queries while nothing has changed; needs `shared`.
            replay: remembers per-turn tokens; by default the shared guard, or one in this process.
            opa_transport: the transport to OPA, instead of that of `opa_url`.
            road: the deprecated name of `opa_transport`.
            clock: seconds since 1970.

        Raises:
            ConfigurationError: the URL or the token file cannot be used, or a setting needs
                `shared`, which is missing.
        """
        if shared is None and (consistency == "strict" or cache):
            raise ConfigurationError("strict consistency and the cache need shared=")
        if consistency not in ("bounded", "strict"):
            raise ConfigurationError("consistency must be bounded or strict")
        self.consistency: Consistency = consistency
        token = _read_token(opa_token_file) if opa_token_file else None
        if road is not None:
            warnings.warn("PDP(road=…) is opa_transport= now", DeprecationWarning, stacklevel=2)
        self._transport = (
            opa_transport
            or road
            or open_transport(opa_url, token=token, client_cert=opa_client_cert)
        )
        self._evaluator = Evaluator(
            OPAClient(self._transport, catch_up=catch_up),
            VerificationCache(verifier, clock=clock),
            replay=replay or (shared.replay if shared else ReplayMemory(clock=clock)),
            revisions=shared.newest if shared else None,
            strict=consistency == "strict",
            decisions=DecisionCache(maxsize=_DECISIONS, clock=clock) if cache else None,
            lists=DecisionCache(maxsize=_LISTS, clock=clock) if cache else None,
            deadline=deadline,
        )
        self._shared = shared
        self._server = server
        self._record = record
        self._clock = clock
        self._observers = Observers()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections to OPA, the record, and what is shared."""
        await self._evaluator.aclose()
        await self._transport.aclose()
        if self._shared:
            await self._shared.aclose()
        if self._record:
            self._record.close()

    def observe(self, observer: Observer) -> None:
        """Notify an observer of each decision from now on; adding it again has no effect."""
        self._observers.add(observer)

    async def authorize(
        self,
        bearer: str | None,
        *,
        tool: str,
        tags: Sequence[str] = (),
        arguments: Mapping[str, Any] | None = None,
        transport: str = "",
    ) -> Decision:
        """Decide a tool call. Never raises for a denial or an outage.

        Args:
            bearer: what stood after `Bearer ` in the header; None when there was none.
            tool: the tool's name.
            tags: the tool's tags.
            arguments: the call's arguments; OPA gets them only where a rule reads them.
            transport: `http` or `stdio`, for rules and records.
        """
        action = Action(name=tool, tags=tags, arguments=arguments)
        return await self.decide(bearer, action, transport=transport)

    async def decide(
        self,
        bearer: str | None,
        action: Action,
        *,
        transport: str = "",
        shadow: bool = False,
        undecidable: bool = False,
    ) -> Decision:
        """Decide any action, as `authorize` does a tool call.

        Args:
            bearer: what stood after `Bearer ` in the header; None when there was none.
            action: what the caller wants to do.
            transport: `http` or `stdio`, for rules and records.
            shadow: whether denials for `tool_not_allowed` and by site rules do not stop the action:
                such a decision is `shadowed`, and holds the libraries of the caller's own grant.
            undecidable: whether rules cannot tell what the action is about, such as a resource
                under a second spelling of its URI. It is refused and recorded without OPA.
        """
        began, at = time.perf_counter(), self._clock()
        context = Context(server=self._server, transport=transport, shadow=shadow)
        credential, decision, age_ms = await self._evaluator.decide(
            bearer, action, context, undecidable=undecidable
        )
        decision = replace(
            decision,
            credential=credential,
            decision_id=uuid.uuid4().hex,
            data_age_ms=age_ms,
        )
        took_ms = (time.perf_counter() - began) * 1000
        decision = self._recorded(decision, action, context, at=at, took_ms=took_ms)
        if self._shared:
            self._shared.usage.count(decision, at)
        seconds = time.perf_counter() - began
        self._observers.notify(lambda one: one.decided(action, decision, seconds=seconds))
        return decision

    async def visible(
        self,
        bearer: str | None,
        *,
        actions: Sequence[Action],
        transport: str = "",
        shadow: AbstractSet[int] = frozenset(),
    ) -> Visible:
        """Decide which actions the caller may see, with one query. Never raises for an outage.

        A caller without a valid bearer sees what the registry's settings list for it. The actions
        that it does not see are recorded.

        Args:
            bearer: what stood after `Bearer ` in the header; None when there was none.
            actions: the action of using each entry of the list.
            transport: `http` or `stdio`, for rules and records.
            shadow: positions of the actions in shadow mode: a valid bearer sees them all.
        """
        began, at = time.perf_counter(), self._clock()
        context = Context(server=self._server, transport=transport)
        credential, visible = await self._evaluator.find_visible(bearer, actions, context)
        if shadow and visible.reason is Reason.OK:
            shown = set(visible.indices)
            visible = replace(
                visible,
                indices=tuple(sorted(shown | shadow)),
                shadowed=tuple(sorted(shadow - shown)),
            )
        if self._record is not None:
            listed = list_entry(
                visible,
                actions,
                credential=credential,
                id_=uuid.uuid4().hex,
                at=at,
                took_ms=(time.perf_counter() - began) * 1000,
                context=context,
            )
            if not self._written(listed):
                visible = Visible(indices=(), reason=Reason.UNAVAILABLE)
        seconds = time.perf_counter() - began
        self._observers.notify(lambda one: one.listed(actions, visible, seconds=seconds))
        return visible

    async def authenticate(
        self, bearer: str | None, *, transport: str = ""
    ) -> tuple[Credential | None, Reason]:
        """Decide whether a bearer is valid now, for any action. Never raises for an outage.

        A denial is recorded, under the method `authenticate`.

        Returns:
            The credential that the bearer proved; None if it proved none, or this could not be
            determined. And `ok`, or the reason to deny any action.
        """
        began, at = time.perf_counter(), self._clock()
        context = Context(server=self._server, transport=transport)
        credential, visible = await self._evaluator.authenticate(bearer, context)
        seconds = time.perf_counter() - began
        self._authenticated(visible.reason, credential, visible, context, at=at, seconds=seconds)
        return credential, visible.reason

    async def authenticate_all(
        self, bearers: Sequence[str], *, transport: str = ""
    ) -> tuple[list[tuple[Credential | None, Reason]], State | None]:
        """Check several bearers as `authenticate` does one, with one query.

        Returns:
            For each bearer what `authenticate` returns; and the state that they were checked in,
            as in `registry_state`.
        """
        began, at = time.perf_counter(), self._clock()
        context = Context(server=self._server, transport=transport)
        checked, callers = await self._evaluator.authenticate_all(bearers, context)
        seconds = (time.perf_counter() - began) / max(1, len(bearers))
        for credential, reason in checked:
            self._authenticated(reason, credential, callers, context, at=at, seconds=seconds)
        return checked, state_of(callers)

    async def registry_state(self) -> State | None:
        """Return the state that decisions are made from now, as `strict` or `bounded` has it.

        Returns:
            Epoch, revision, and the revisions of the product's and of the site's rules; None in an
            outage.
        """
        _, visible = await self._evaluator.authenticate(None, Context(server=self._server))
        return state_of(visible)

    def _authenticated(
        self,
        reason: Reason,
        credential: Credential | None,
        response: Visible | Callers,
        context: Context,
        *,
        at: float,
        seconds: float,
    ) -> None:
        if reason.reason_class is ReasonClass.AUTHENTICATION:
            # The reason is sufficient; some messages quote details that are not known here.
            decision = replace(
                Decision.refused(reason, ""),
                credential=credential,
                decision_id=uuid.uuid4().hex,
                epoch=response.epoch,
                revision=response.revision,
            )
            action = Action(method="authenticate", name="")
            self._recorded(decision, action, context, at=at, took_ms=seconds * 1000)
        self._observers.notify(lambda one: one.authenticated(reason, seconds=seconds))

    def record_end(
        self, action: Action, reason: Reason, *, credential: Credential | None = None
    ) -> None:
        """Record that something was ended while it ran, as its caller's access had ended."""
        decision = replace(
            Decision.refused(reason, ""), credential=credential, decision_id=uuid.uuid4().hex
        )
        context = Context(server=self._server)
        self._recorded(decision, action, context, at=self._clock(), took_ms=0.0)

    def allow_public(self, *, tool: str, transport: str = "") -> Decision:
        """Allow a tool that the server declares public, without a query, and record the decision.

        The decision holds no libraries, and is a denial only if the record cannot be written.
        """
        decision = Decision(
            allow=True,
            reason=Reason.OK,
            reasons=(Reason.OK.value,),
            message="",
            decision_id=uuid.uuid4().hex,
        )
        action = Action(name=tool)
        context = Context(server=self._server, transport=transport)
        decision = self._recorded(decision, action, context, at=self._clock(), took_ms=0.0)
        self._observers.notify(lambda one: one.decided(action, decision, seconds=0.0))
        return decision

    def _recorded(
        self, decision: Decision, action: Action, context: Context, *, at: float, took_ms: float
    ) -> Decision:
        if self._record is None:
            return decision
        if is_too_large(action):
            action = cut(action)
        written = self._written(
            entry(decision, at=at, took_ms=took_ms, action=action, context=context)
        )
        # An unrecorded action must not run. An unrecorded denial remains a denial.
        if written or not decision.runs:
            return decision
        return replace(Decision.refused(Reason.UNAVAILABLE), decision_id=decision.decision_id)

    def _written(self, entry: Mapping[str, Any]) -> bool:
        try:
            if self._record:
                self._record.write(entry)
        except PDPError as error:
            log_outage(error)
            return False
        return True


def _read_token(path: str | Path) -> str:
    try:
        token = Path(path).read_text(encoding="ascii").strip()
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{path}: no readable token ({type(error).__name__})") from None
    if not token or not token.isprintable() or " " in token:
        raise ConfigurationError(f"{path}: holds no token")
    return token
