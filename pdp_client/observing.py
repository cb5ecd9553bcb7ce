"""Who looks on while a PDP decides: metrics, traces. Looking on changes no answer."""

import logging
from collections.abc import Callable, Sequence
from typing import Protocol

from pdp_client.decision import Action, Decision, Visible
from pdp_client.reasons import Reason

_log = logging.getLogger(__name__)


class Observer(Protocol):
    """What is told of each answer, as it takes effect, within the task that asked.

    `seconds` are those since the question.
    """

    def decided(self, action: Action, decision: Decision, *, seconds: float) -> None:
        """An action was decided."""

    def listed(self, actions: Sequence[Action], visible: Visible, *, seconds: float) -> None:
        """It was decided what of a list shows."""

    def authenticated(self, reason: Reason, *, seconds: float) -> None:
        """It was decided whether a bearer is good."""


class Observers:
    """The observers of one PDP. What goes wrong in one is told once, and harms nobody."""

    def __init__(self) -> None:
        self._observers: list[Observer] = []
        self._told: set[int] = set()

    def add(self, observer: Observer) -> None:
        """Tell this one too; one that is told already is not told twice."""
        if not any(one is observer for one in self._observers):
            self._observers.append(observer)

    def tell(self, tell: Callable[[Observer], None]) -> None:
        """Tell each."""
        for observer in self._observers:
            try:
                tell(observer)
            except Exception as error:  # noqa: BLE001 - a decision does not hang on who looks on
                if id(observer) not in self._told:
                    self._told.add(id(observer))
                    # Without a traceback: it would quote the action.
                    _log.error(
                        "pdp.observer_failed observer=%s error=%s",
                        type(observer).__name__,
                        type(error).__name__,
                    )
