"""Observers of a PDP: metrics, traces. An observer changes no decision."""

import logging
from collections.abc import Callable, Sequence
from typing import Protocol

from pdp_client.decision import Action, Decision, Visible
from pdp_client.reasons import Reason

_log = logging.getLogger(__name__)


class Observer(Protocol):
    """An observer that is notified of each decision as it takes effect, in the task of the call.

    `seconds` is the time since the call began.
    """

    def decided(self, action: Action, decision: Decision, *, seconds: float) -> None:
        """Handle the decision on an action."""

    def listed(self, actions: Sequence[Action], visible: Visible, *, seconds: float) -> None:
        """Handle the decision on which entries of a list are visible."""

    def authenticated(self, reason: Reason, *, seconds: float) -> None:
        """Handle the decision on whether a bearer is valid."""


class Observers:
    """The observers of one PDP. An observer's error is logged once, and never reaches callers."""

    def __init__(self) -> None:
        self._observers: list[Observer] = []
        self._logged: set[int] = set()

    def add(self, observer: Observer) -> None:
        """Add an observer; adding it again has no effect."""
        if not any(one is observer for one in self._observers):
            self._observers.append(observer)

    def notify(self, call: Callable[[Observer], None]) -> None:
        """Call each observer."""
        for observer in self._observers:
            try:
                call(observer)
            except Exception as error:  # noqa: BLE001 - a decision does not depend on an observer
                if id(observer) not in self._logged:
                    self._logged.add(id(observer))
                    # Without a traceback: it would quote the action.
                    _log.error(
                        "pdp.observer_failed observer=%s error=%s",
                        type(observer).__name__,
                        type(error).__name__,
                    )
