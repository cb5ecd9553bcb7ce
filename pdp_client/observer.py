"""Observers of a PDP: metrics, traces. An observer changes no decision."""

import logging
from collections.abc import Callable, Sequence
from typing import Protocol

from pdp_client.decision import Action, Decision, Visible
from pdp_client.reasons import Reason

_log = logging.getLogger(__name__)


class Observer(Protocol):
    """Notified of each decision as it takes effect, within the task of the call.

    `seconds` are those since the call began.
    """

    def decided(self, action: Action, decision: Decision, *, seconds: float) -> None:
        """An action was decided."""

    def listed(self, actions: Sequence[Action], visible: Visible, *, seconds: float) -> None:
        """It was decided what of a list shows."""

    def authenticated(self, reason: Reason, *, seconds: float) -> None:
        """It was decided whether a bearer is good."""


class Observers:
    """The observers of one PDP. An error of one is logged once, and reaches no caller."""

    def __init__(self) -> None:
        self._observers: list[Observer] = []
        self._logged: set[int] = set()

    def add(self, observer: Observer) -> None:
        """Notify this one too; once, however often it is added."""
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
