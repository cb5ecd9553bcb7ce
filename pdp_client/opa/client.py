"""OPA, queried until it responds from data that is as new as it must be, or time is up.

Versions that were observed never go down: a response from an older state of the registry counts as
`behind`. In `strict` the caller also says which version it must be at least.
"""

import asyncio
from dataclasses import replace
from typing import Any

from lictor_common.version import RegistryVersion
from pdp_client.opa.query import AnyResponse, Query
from pdp_client.opa.retry import RetryCoordinator
from pdp_client.opa.transport import Transport
from pdp_client.reasons import Reason

CATCH_UP = 0.25
"""Seconds for which an OPA that is behind is queried again."""

_FIRST_PAUSE, _LONGEST_PAUSE, _GROWTH = 0.002, 0.02, 1.5


class OPAClient:
    """Queries one OPA, or several behind one address.

    Attributes:
        observed_version: epoch and revision of the newest state that a response was made from.
    """

    def __init__(self, transport: Transport, *, catch_up: float = CATCH_UP) -> None:
        """Create the client; it connects on the first query.

        Args:
            transport: the way to OPA.
            catch_up: seconds for which an OPA that is behind is queried again.
        """
        self._transport = transport
        self._catch_up = catch_up
        self.observed_version = RegistryVersion(0, 0)
        self._retries = RetryCoordinator()

    async def query_until_current(
        self,
        query: Query[AnyResponse],
        min_version: RegistryVersion | None = None,
        *,
        timeout: float | None = None,  # noqa: ASYNC109 - for a task that outlives its caller
    ) -> AnyResponse:
        """Query OPA until the response is not behind, or the time for that is up.

        Args:
            query: what to send.
            min_version: the version that the response must be made from, in `strict`.
            timeout: seconds for all of it; None where the caller has a deadline.

        Raises:
            PDPError: there was no response, or none that can be used.
            TimeoutError: the time is up.
        """
        now = asyncio.get_running_loop().time
        latest, pause = now() + self._catch_up, _FIRST_PAUSE
        document, holds_turn = query.as_input(), False
        try:
            async with asyncio.timeout(timeout):
                while True:
                    # As observed before the query. Responses overtake each other: one that is older
                    # than another received meanwhile does not mean that OPA is older.
                    wanted = self.observed_version
                    bound: dict[str, int] = {}
                    if min_version is not None:
                        wanted = max(wanted, min_version)
                        bound = {"min_epoch": wanted.epoch, "min_revision": wanted.revision}
                    result: Any = await self._transport.query(query.entrypoint, document | bound)
                    response = self._check_version(query.parse(result), wanted)
                    if response.reason is not Reason.BEHIND:
                        return response
                    if now() + pause > latest:
                        return query.when_behind(response)
                    if not holds_turn and self._retries.observed_version < wanted:
                        holds_turn = await self._retries.acquire(wanted, latest=latest)
                        if not holds_turn:
                            continue
                    await asyncio.sleep(pause)
                    pause = min(pause * _GROWTH, _LONGEST_PAUSE)
        finally:
            if holds_turn:
                self._retries.release()

    def _check_version(self, response: AnyResponse, wanted: RegistryVersion) -> AnyResponse:
        """The response, which is `behind` where it was made from less than was wanted."""
        if response.epoch is None or response.revision is None:
            return response
        version = RegistryVersion(response.epoch, response.revision)
        self._retries.observe(version)
        if version < wanted:
            return replace(response, reason=Reason.BEHIND)
        if response.reason is not Reason.BEHIND:
            self.observed_version = max(self.observed_version, version)
        return response
