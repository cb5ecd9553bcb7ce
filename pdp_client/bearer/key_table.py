"""The key and the issuer of each kid: each kid belongs to one issuer (RFC 8725 §3.8).

Keyrings in files change while bearers are verified. The whole table is swapped at once, and
keyrings that conflict do not take effect.
"""

import logging
import math
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from pdp_client.bearer.jwt import canonical_alg
from pdp_client.bearer.keyring import Keyring, VerificationKey
from pdp_client.bearer.keyring_file import KeyringFile
from pdp_client.exceptions import ConfigurationError
from pdp_client.reasons import quote

_log = logging.getLogger(__name__)

CHECK_EVERY: Final = 1.0
"""Seconds for which a key that was removed from its file may still verify."""


@dataclass(frozen=True, slots=True)
class Issuer:
    """An accepted issuer, and the keys that are its alone (RFC 8725 §3.8).

    Attributes:
        name: The exact `iss`.
        keyring: Its keys; with a `KeyringFile`, those that are in the file at the time.
        audience: What `aud` must be or contain; None leaves `aud` alone (RFC 8725 §3.9).
        algorithms: The only algorithms that are used (RFC 8725 §3.2), so that keys of others are
            left out; None for all that a `Keyring` supports.
    """

    name: str
    keyring: Keyring | KeyringFile
    audience: str | None = None
    algorithms: frozenset[str] | None = None

    def refuses(self, key: VerificationKey) -> str:
        """Return why a key is not used for this issuer; empty if it is."""
        if self.algorithms is None or key.alg in map(canonical_alg, self.algorithms):
            return ""
        return f"kid {quote(key.kid)}: {self.name} does not allow alg {key.alg}"


Table = dict[str, tuple[Issuer, VerificationKey]]
"""Issuer and key by kid."""


class KeyTable:
    """Every kid with its issuer and key. Safe to share between threads."""

    def __init__(
        self,
        issuers: Iterable[Issuer],
        *,
        check_every: float = CHECK_EVERY,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Bind every kid to its one issuer.

        Args:
            issuers: Any number of issuers.
            check_every: Seconds between two checks of the files.
            monotonic: Seconds since some moment.

        Raises:
            ConfigurationError: Two issuers share a kid, or an issuer allows the algorithm of none
                of its keys.
        """
        self._issuers = list(issuers)
        self._check_every = check_every
        self._monotonic = monotonic
        self._looking = threading.Lock()
        self._problems: tuple[ConfigurationError, ...] = ()
        self._keyrings = [_at_hand(issuer.keyring) for issuer in self._issuers]
        for issuer, keyring in zip(self._issuers, self._keyrings, strict=True):
            if (refused := [*map(issuer.refuses, keyring)]) and all(refused):
                raise ConfigurationError(refused[0])
        # One object, so that no thread sees half of a swap.
        self._current: tuple[int, Table] = (0, self._bind(self._keyrings))
        self._left_out: frozenset[str] = frozenset()
        self._name_left_out()
        watched = any(isinstance(issuer.keyring, KeyringFile) for issuer in self._issuers)
        self._next_look = monotonic() + check_every if watched else math.inf

    @property
    def problems(self) -> tuple[ConfigurationError, ...]:
        """Why the last check did not put key files into effect."""
        return self._problems

    def current(self) -> tuple[int, Table]:
        """Return the table to check a bearer with; check the files first if that is due.

        Returns:
            How often the table has been swapped, and the table.
        """
        if self._monotonic() >= self._next_look and self._looking.acquire(blocking=False):
            # While one thread checks the files, the others continue with the previous table.
            try:
                self._look()
            finally:
                self._next_look = self._monotonic() + self._check_every
                self._looking.release()
        return self._current

    def _look(self) -> None:
        problems: list[ConfigurationError] = []
        found = []
        for issuer in self._issuers:
            if isinstance(issuer.keyring, Keyring):
                found.append(issuer.keyring)
                continue
            found.append(issuer.keyring.reload_if_changed())
            if issuer.keyring.problem is not None:
                problems.append(issuer.keyring.problem)
        if any(new is not old for new, old in zip(found, self._keyrings, strict=True)):
            self._swap(found, problems)
        for problem in problems:
            if str(problem) not in map(str, self._problems):
                _log.warning("keyring.reload_failed code=%s detail=%s", problem.code, problem)
        self._problems = tuple(problems)

    def _swap(self, found: Sequence[Keyring], problems: list[ConfigurationError]) -> None:
        fitting, table = self._fit(found, problems)
        if fitting != self._keyrings:
            generation = self._current[0] + 1
            self._keyrings = fitting
            self._current = (generation, table)
            self._name_left_out()
            _log.info("keyring.reloaded generation=%d keys=%d", generation, len(table))

    def _fit(
        self, found: Sequence[Keyring], problems: list[ConfigurationError]
    ) -> tuple[list[Keyring], Table]:
        """Return the keyrings that may take effect: all, or else those that fit, in order."""
        # All together first: a kid may move from one file to another.
        try:
            return list(found), self._bind(found)
        except ConfigurationError:
            pass
        fitting, table = list(self._keyrings), self._current[1]
        for position, keyring in enumerate(found):
            attempt = [*fitting[:position], keyring, *fitting[position + 1 :]]
            try:
                fitting, table = attempt, self._bind(attempt)
            except ConfigurationError as error:
                problems.append(ConfigurationError(str(error)))
        return fitting, table

    def _name_left_out(self) -> None:
        """Log, once each, the keys that are not used."""
        found = frozenset(
            f"{issuer.name}: {text}"
            for issuer, keyring in zip(self._issuers, self._keyrings, strict=True)
            for text in (*keyring.left_out, *map(issuer.refuses, keyring))
            if text
        )
        for text in sorted(found - self._left_out):
            _log.warning("keyring.key_left_out issuer=%s", text)
        self._left_out = found

    def _bind(self, keyrings: Sequence[Keyring]) -> Table:
        table: Table = {}
        for issuer, keyring in zip(self._issuers, keyrings, strict=True):
            for key in keyring:
                if key.kid in table:
                    other = table[key.kid][0].name
                    raise ConfigurationError(
                        f"kid {quote(key.kid)} is in the keyrings of {other} and {issuer.name}"
                    )
                if not issuer.refuses(key):
                    table[key.kid] = issuer, key
        return table


def _at_hand(keyring: Keyring | KeyringFile) -> Keyring:
    return keyring.keyring if isinstance(keyring, KeyringFile) else keyring
