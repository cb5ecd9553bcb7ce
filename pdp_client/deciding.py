"""How a decision comes about: bearer, what is known of the registry, what is remembered, OPA."""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, Protocol

from pdp_client.answers import Answers
from pdp_client.cache import AnswerCache, Question, list_question, question
from pdp_client.decision import Action, Context, Decision, Visible
from pdp_client.exceptions import BearerRejected, EvaluationError, PDPError, RuleError
from pdp_client.inquiry import Inquiry
from pdp_client.limits import fitting, is_too_large
from pdp_client.memo import Verified, VerifiedBearers
from pdp_client.newest import NewestRevision
from pdp_client.progress import Stamp
from pdp_client.reasons import Reason, message
from pdp_client.replay import ReplayGuard
from pdp_client.usage import UsageCounter
from pdp_client.verifier import Credential

Consistency = Literal["bounded", "strict"]
"""`bounded`: an answer is never older than the staleness limit, and mostly milliseconds old.
`strict`: it is made from a state that holds every write which had returned when it was asked."""

_ANONYMOUS: Mapping[str, Any] = {"kind": "anonymous"}
_REJECTED: Mapping[str, Any] = {"kind": "anonymous", "rejected": True}
_log = logging.getLogger(__name__)


class Sharing(Protocol):
    """What instances share; `pdp_client.shared.Shared` is one, through Redis.

    Attributes:
        newest: knows how far the registry has got.
        replay: remembers per-turn tokens.
        usage: counts the use of tokens.
    """

    @property
    def newest(self) -> NewestRevision: ...  # noqa: D102 - see the class

    @property
    def replay(self) -> ReplayGuard: ...  # noqa: D102

    @property
    def usage(self) -> UsageCounter: ...  # noqa: D102

    async def aclose(self) -> None:
        """Let go of all of it."""
        ...


class Deciding:
    """Decides for one process, within a deadline, at one consistency."""

    def __init__(
        self,
        inquiry: Inquiry,
        bearers: VerifiedBearers,
        *,
        replay: ReplayGuard,
        newest: NewestRevision | None,
        strict: bool,
        decisions: AnswerCache[Decision] | None,
        lists: AnswerCache[Visible] | None,
        deadline: float,
    ) -> None:
        """Tie the parts together.

        Args:
            inquiry: asks OPA.
            bearers: verifies.
            replay: remembers per-turn tokens.
            newest: knows how far the registry has got; for `strict` and the caches.
            strict: ask it before each decision.
            decisions: remembers them; None asks each time.
            lists: remembers what of them shows, likewise.
            deadline: seconds for a decision.
        """
        self._inquiry = inquiry
        self._bearers = bearers
        self._replay = replay
        self._answers = Answers(
            newest, strict=strict, deadline=deadline, reached=lambda: inquiry.newest
        )
        self._decisions = decisions
        self._lists = lists
        self._deadline = deadline
        # Where to begin; what an answer says is what counts.
        self._sends_arguments = False

    async def call(
        self, bearer: str | None, action: Action, context: Context
    ) -> tuple[Credential | None, Decision, int | None]:
        """Decide a call. Never raises for a denial or an outage.

        Returns:
            What the bearer proved, if anything; the decision; and the age of its data by now, in
            milliseconds, which for a remembered one is more than the decision says.
        """
        verified = None
        try:
            if bearer is not None:
                verified = self._bearers.verify(bearer)
            if is_too_large(action):
                credential = verified.credential if verified else None
                return credential, _refused_by_size(credential, action), None
            found = self._remembered(verified, action, context)
            if found is None:
                async with asyncio.timeout(self._deadline):
                    found = await self._asked(verified, action, context)
            decision, since_ms = found
            age_ms = None if decision.data_age_ms is None else decision.data_age_ms + since_ms
        except BearerRejected as error:
            return None, Decision.refused(error.reason, error.message), None
        except (PDPError, TimeoutError) as error:
            log_outage(error)
            refused = Decision.refused(Reason.UNAVAILABLE)
            decision, age_ms = replace(refused, errors=_rule_errors(error)), None
        return verified.credential if verified else None, decision, age_ms

    async def list(
        self, bearer: str | None, actions: Sequence[Action], context: Context
    ) -> tuple[Credential | None, Visible]:
        """Decide which actions of a list show. Never raises for a denial or an outage.

        A bearer that is refused shows what the registry's settings list for one.

        Returns:
            What the bearer proved, if anything, and what shows.
        """
        verified = rejected = None
        try:
            async with asyncio.timeout(self._deadline):
                try:
                    verified = await self._verified(bearer)
                except BearerRejected as error:
                    rejected = error.reason
                visible = await self._visible(
                    verified, actions, context, rejected=rejected is not None
                )
        except (PDPError, TimeoutError) as error:
            log_outage(error)
            visible = Visible(indices=(), reason=Reason.UNAVAILABLE, errors=_rule_errors(error))
        if rejected and visible.reason is Reason.MISSING_TOKEN:
            visible = replace(visible, reason=rejected)
        return verified.credential if verified else None, visible

    async def authenticate(
        self, bearer: str | None, context: Context
    ) -> tuple[Credential | None, Visible]:
        """As `list` of nothing, but a bearer that Python refuses is refused in an outage too."""
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

    async def aclose(self) -> None:
        """Wait for the questions that are being asked."""
        for cache in (self._decisions, self._lists):
            if cache is not None:
                await cache.aclose()

    async def _verified(self, bearer: str | None) -> Verified | None:
        """What a bearer proves; None without one.

        Raises:
            PDPError: it is refused, or nobody could say whether it is a replay.
        """
        if bearer is None:
            return None
        verified = self._bearers.verify(bearer)
        await self._replay.check(verified.credential)
        return verified

    async def _visible(
        self,
        verified: Verified | None,
        actions: Sequence[Action],
        context: Context,
        *,
        rejected: bool = False,
    ) -> Visible:
        shown = _REJECTED if rejected else verified.shown if verified else _ANONYMOUS
        asked = positions = None
        if any(map(is_too_large, actions)):
            positions = fitting(actions)
            actions = [actions[index] for index in positions]
        if self._lists is not None and not (verified and verified.credential.is_per_turn):
            canonical = "rejected" if rejected else verified.canonical if verified else ""
            asked = list_question(canonical, actions, context)

        async def ask(at_least: Stamp | None) -> Visible:
            return await self._inquiry.visible(shown, actions, context, at_least=at_least)

        visible, _ = await self._answers.get(self._lists, asked, ask)
        if positions is not None:
            return replace(visible, indices=tuple(positions[n] for n in visible.indices))
        return visible

    async def _asked(
        self, verified: Verified | None, action: Action, context: Context
    ) -> tuple[Decision, int]:
        """What is remembered of a call, or what OPA says; see `Answers.get`.

        Arguments may be large, and hold anything: they are sent only where a rule reads them.
        """
        if verified is not None:
            await self._replay.check(verified.credential)
        shown = verified.shown if verified else _ANONYMOUS
        sent = self._sends_arguments

        async def ask(at_least: Stamp | None) -> Decision:
            # Forgotten until an answer says it again: arguments that cannot be sent must not stand
            # in the way of finding out that no rule reads them any more.
            self._sends_arguments = False
            decision = await self._inquiry.decision(
                shown, action, context, arguments=sent, at_least=at_least
            )
            self._sends_arguments = decision.uses_arguments
            return decision

        while True:
            asked = self._question(verified, action, context, arguments=sent)
            found = await self._answers.get(self._decisions, asked, ask)
            if found[0].reason is Reason.BEHIND or _counts(found[0], action, sent=sent):
                return found
            sent = True

    def _remembered(
        self, verified: Verified | None, action: Action, context: Context
    ) -> tuple[Decision, int] | None:
        """What is remembered of a call, where that can be told without asking anybody."""
        if self._decisions is None:
            return None
        state, sent = self._answers.known(), self._sends_arguments
        while state is not None:
            asked = self._question(verified, action, context, arguments=sent)
            found = self._decisions.get(state, asked) if asked else None
            if found is None or _counts(found[0], action, sent=sent):
                return found
            sent = True
        return None

    def _question(
        self, verified: Verified | None, action: Action, context: Context, *, arguments: bool
    ) -> Question | None:
        """What an answer is remembered by; None where none may be."""
        # A per-turn token that is remembered would not be checked for replay.
        if self._decisions is None or (verified and verified.credential.is_per_turn):
            return None
        canonical = verified.canonical if verified else ""
        return question(canonical, action, context, arguments=arguments)


def _refused_by_size(credential: Credential | None, action: Action) -> Decision:
    """The denial of an action that no grant covers, without OPA."""
    if credential is None:
        return Decision.refused(Reason.MISSING_TOKEN)
    text = message(Reason.TOOL_NOT_ALLOWED, tool=action.name)
    return Decision.refused(Reason.TOOL_NOT_ALLOWED, text)


def _counts(decision: Decision, action: Action, *, sent: bool) -> bool:
    """Whether a decision is one on this action, and not on one with other arguments."""
    return sent or action.arguments is None or not decision.uses_arguments


def _rule_errors(error: BaseException) -> tuple[RuleError, ...]:
    return error.errors if isinstance(error, EvaluationError) else ()


def log_outage(error: BaseException) -> None:
    """Tell why something could not be decided, or not be put on record."""
    code = error.code if isinstance(error, PDPError) else "deadline"
    _log.warning("pdp.unavailable code=%s detail=%s", code, error)
