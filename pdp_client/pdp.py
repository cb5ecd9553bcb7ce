"""The decision point as an MCP server sees it: a bearer and an action in, a decision out."""

import asyncio
import logging
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

from pdp_client.decision import Action, Decision, Visible, read_decision, read_visible
from pdp_client.exceptions import BearerRejected, ConfigurationError, PDPError
from pdp_client.reasons import Reason
from pdp_client.record import DecisionRecord, entry
from pdp_client.replay import ReplayGuard, ReplayMemory
from pdp_client.roads import Road, Rule, open_road
from pdp_client.verifier import BearerVerifier, Credential

DEADLINE = 0.5
"""Seconds for a whole decision, connecting included."""

_ANONYMOUS: Mapping[str, Any] = {"kind": "anonymous"}
_REJECTED: Mapping[str, Any] = {"kind": "anonymous", "rejected": True}
_log = logging.getLogger(__name__)


class PDP:
    """Decides, by asking OPA. Whatever goes wrong on the way is a denial with its reason.

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
        replay: ReplayGuard | None = None,
        road: Road | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Connect nothing yet; the first question does.

        Args:
            opa_url: `unix:///path/to/opa.sock`, `http://host:port` or `https://host:port`.
            verifier: says whose bearers are accepted.
            opa_token_file: holds the bearer that OPA asks for; read once, here.
            opa_client_cert: certificate and key files, for mutual TLS.
            deadline: seconds for a whole decision.
            server: this MCP server's name, for rules and records.
            record: where each decision is written before it takes effect; None writes none.
            replay: what remembers per-turn tokens; by default this process's memory.
            road: another way to OPA than `opa_url` says.
            clock: seconds since 1970.

        Raises:
            ConfigurationError: the URL or the token file cannot be used.
        """
        token = _read_token(opa_token_file) if opa_token_file else None
        self._road = road or open_road(opa_url, token=token, client_cert=opa_client_cert)
        self._verifier = verifier
        self._deadline = deadline
        self._server = server
        self._record = record
        self._replay = replay or ReplayMemory(clock=clock)
        self._clock = clock
        self._newest = (0, 0)
        self._sends_arguments = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections to OPA and the record."""
        await self._road.aclose()
        if self._record:
            self._record.close()

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
        began, at = time.perf_counter(), self._clock()
        credential, decision = await self._decide(bearer, action, transport)
        took_ms = (time.perf_counter() - began) * 1000
        decision = replace(decision, credential=credential, decision_id=uuid.uuid4().hex)
        return self._recorded(decision, at=at, took_ms=took_ms, action=action, transport=transport)

    async def visible(
        self, bearer: str | None, *, actions: Sequence[Action], transport: str = ""
    ) -> Visible:
        """Which of these actions the caller may see, with one query. Never raises for an outage.

        A caller without a bearer, or with a bad one, sees what the registry's settings list for it.
        """
        try:
            async with asyncio.timeout(self._deadline):
                rejected, credential = None, _ANONYMOUS
                if bearer is not None:
                    try:
                        credential = (await self._verified(bearer)).as_input()
                    except BearerRejected as error:
                        rejected, credential = error.reason, _REJECTED
                result = await self._ask(
                    "visible",
                    credential,
                    transport,
                    actions=[action.as_input() for action in actions],
                )
                visible = read_visible(result.answer, count=len(actions))
        except (PDPError, TimeoutError) as error:
            _log_outage(error)
            return Visible(indices=(), reason=Reason.UNAVAILABLE)
        if result.is_older(visible.epoch, visible.revision):
            return Visible(indices=(), reason=Reason.BEHIND)
        self._saw(visible.epoch, visible.revision)
        if rejected and visible.reason is Reason.MISSING_TOKEN:
            return replace(visible, reason=rejected)
        return visible

    def allow_public(self, *, tool: str, transport: str = "") -> Decision:
        """The decision for a tool that the server declares public: allowed, unasked, recorded.

        It holds no libraries, and is denied only when the record cannot be written.
        """
        decision = Decision(
            allow=True,
            reason=Reason.OK,
            reasons=(Reason.OK.value,),
            message="",
            decision_id=uuid.uuid4().hex,
        )
        action = Action(name=tool)
        return self._recorded(
            decision, at=self._clock(), took_ms=0.0, action=action, transport=transport
        )

    async def _decide(
        self, bearer: str | None, action: Action, transport: str
    ) -> tuple[Credential | None, Decision]:
        credential: Credential | None = None
        try:
            async with asyncio.timeout(self._deadline):
                if bearer is not None:
                    credential = await self._verified(bearer)
                shown = credential.as_input() if credential else _ANONYMOUS
                result, decision = await self._answer(shown, action, transport)
        except BearerRejected as error:
            return None, Decision.refused(error.reason, error.message)
        except (PDPError, TimeoutError) as error:
            _log_outage(error)
            return credential, Decision.refused(Reason.UNAVAILABLE)
        if result.is_older(decision.epoch, decision.revision):
            return credential, replace(
                Decision.refused(Reason.BEHIND), epoch=decision.epoch, revision=decision.revision
            )
        self._saw(decision.epoch, decision.revision)
        return credential, decision

    async def _answer(
        self, shown: Mapping[str, Any], action: Action, transport: str
    ) -> tuple["_Asked", Decision]:
        """Ask for a decision, sending the arguments only where a rule reads them.

        They may be large, and hold anything. An answer that they could have changed is not taken
        without them: it is asked for once more, and so are all that follow while rules read them.
        """
        # Forgotten until an answer says it again: arguments that cannot be sent must not stand in
        # the way of finding out that no rule reads them any more.
        sent, self._sends_arguments = self._sends_arguments, False
        while True:
            question = action.as_input(arguments=sent)
            result = await self._ask("decision", shown, transport, action=question)
            decision = read_decision(result.answer)
            self._sends_arguments = decision.uses_arguments
            if sent or action.arguments is None or not decision.uses_arguments:
                return result, decision
            sent = True

    async def _verified(self, bearer: str) -> Credential:
        credential = self._verifier.verify(bearer)
        await self._replay.check(credential)
        return credential

    async def _ask(
        self, rule: Rule, credential: Mapping[str, Any], transport: str, **actions: Any
    ) -> "_Asked":
        seen = self._newest
        context = {"server": self._server, "transport": transport}
        question = {"credential": credential, "context": context, **actions}
        return _Asked(await self._road.ask(rule, question), seen)

    def _saw(self, epoch: int | None, revision: int | None) -> None:
        if epoch is not None and revision is not None:
            self._newest = max(self._newest, (epoch, revision))

    def _recorded(
        self,
        decision: Decision,
        *,
        at: float,
        took_ms: float,
        action: Action,
        transport: str,
    ) -> Decision:
        if self._record is None:
            return decision
        context = {"server": self._server, "transport": transport}
        try:
            self._record.write(
                entry(decision, at=at, took_ms=took_ms, action=action, context=context)
            )
        except PDPError as error:
            # What is not on record must not happen. A denial that is not on record stays a denial.
            _log_outage(error)
            if decision.allow:
                return replace(
                    Decision.refused(Reason.UNAVAILABLE), decision_id=decision.decision_id
                )
        return decision


class _Asked:
    """An answer, with the newest state that had been seen when the question was sent.

    Answers overtake each other. One that is older than another which came back meanwhile is no sign
    of an older OPA; one that is older than what was known when it was asked for is.
    """

    def __init__(self, answer: Any, seen: tuple[int, int]) -> None:
        self.answer = answer
        self._seen = seen

    def is_older(self, epoch: int | None, revision: int | None) -> bool:
        return epoch is not None and revision is not None and (epoch, revision) < self._seen


def _log_outage(error: BaseException) -> None:
    code = error.code if isinstance(error, PDPError) else "deadline"
    _log.warning("pdp.unavailable code=%s detail=%s", code, error)


def _read_token(path: str | Path) -> str:
    try:
        token = Path(path).read_text(encoding="ascii").strip()
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{path}: no readable token ({type(error).__name__})") from None
    if not token or not token.isprintable() or " " in token:
        raise ConfigurationError(f"{path}: holds no token")
    return token
