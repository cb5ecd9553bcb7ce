"""One Neo4j: its driver, and transactions that never hang.

Everything is asked of a cluster's leader, reads too: a follower may not have a revocation yet.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, TypeVar

from neo4j import WRITE_ACCESS, AsyncGraphDatabase, NotificationMinimumSeverity
from neo4j.exceptions import DriverError, Neo4jError

from registry.neo4j.errors import store_errors

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from neo4j import AsyncDriver, AsyncSession, AsyncTransaction

    from registry.neo4j.url import Target

T = TypeVar("T")

CONNECT_SECONDS = 5.0
"""How long to wait for a connection, a new one or a free one; also for a farewell."""
RETRY_SECONDS = 5.0
"""For how long that is tried again which failed before it changed anything."""
ANSWER_SECONDS = 10.0
"""How long a small query may take; and how long a lock is waited for."""
LONG_SECONDS = 120.0
"""How long a query may take that looks through all records of a kind, or a commit."""
TRANSACTION_SECONDS = 600.0
"""How long Neo4j lets a transaction live: a writer that hangs holds up the others no longer."""

_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 1.0


class Open:
    """An open transaction. Whatever the driver raises comes out as it is: see `store_errors`."""

    def __init__(self, place: str, session: AsyncSession, transaction: AsyncTransaction) -> None:
        self.place = place
        self._session = session
        self._transaction = transaction

    async def run(self, query: str, *, seconds: float = ANSWER_SECONDS, **parameters: Any) -> Any:
        """Run a query that returns at most one row, with one column; None if there is no row."""
        async with asyncio.timeout(seconds):
            result = await self._transaction.run(query, parameters)
            row = await result.single()
        return None if row is None else row[0]

    async def explain(self, query: str, **parameters: Any) -> str | None:
        """Plan a query without running it: `r` if it only reads."""
        async with asyncio.timeout(ANSWER_SECONDS):
            result = await self._transaction.run(f"EXPLAIN {query}", parameters)
            summary = await result.consume()
        return summary.query_type

    async def commit(self) -> None:
        """Commit. An error may mean that it took place, and may mean that it did not."""
        async with asyncio.timeout(LONG_SECONDS):
            await self._transaction.commit()

    async def end(self) -> None:
        """Undo what is not committed. Never fails: a connection that does not answer is dropped."""
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                await self._transaction.close()
                await self._session.close()
        except (DriverError, Neo4jError, OSError):  # TimeoutError is an OSError
            await _drop(self._session)
        except BaseException:
            await _drop(self._session)
            raise


class Graph:
    """A pool of connections to one Neo4j. Making it connects to nothing."""

    def __init__(self, target: Target) -> None:
        self.place = target.place
        self._database = target.database
        self._driver: AsyncDriver = AsyncGraphDatabase.driver(
            target.place,
            auth=target.auth,
            connection_timeout=CONNECT_SECONDS,
            connection_acquisition_timeout=CONNECT_SECONDS,
            max_connection_pool_size=20,
            fetch_size=-1,  # queries return one row
            notifications_min_severity=NotificationMinimumSeverity.OFF,  # empty graphs have many
            telemetry_disabled=True,
            user_agent="lictor",
        )

    async def read(
        self, work: Callable[[Open], Awaitable[T]], *, seconds: float = ANSWER_SECONDS
    ) -> T:
        """Run reads in one transaction, again when that may help.

        Args:
            work: reads, and changes nothing.
            seconds: how long one attempt may take; Neo4j gives up as well then.

        Raises:
            Unavailable, Unreadable: see `store_errors`.
        """

        async def attempt() -> T:
            async with asyncio.timeout(seconds):
                opened, answer = await self._begin(work, seconds)
            await opened.end()
            return answer

        return await self._attempts(attempt)

    async def begin(self, first: Callable[[Open], Awaitable[T]]) -> tuple[Open, T]:
        """Open a transaction, again when that may help; the caller ends it.

        Args:
            first: what is done first in it, such as taking a lock; no record is written yet.

        Raises:
            Unavailable: another has a lock for too long; and see `store_errors`.
        """
        return await self._attempts(lambda: self._begin(first, TRANSACTION_SECONDS))

    async def run_alone(self, query: str) -> None:
        """Run one statement that must be a transaction of its own, such as of the schema.

        Raises:
            Neo4jError: as it comes; what it means depends on the statement.
            Unavailable, Unreadable: see `store_errors`.
        """
        async with asyncio.timeout(LONG_SECONDS), self._session() as session:
            await (await session.run(query)).consume()

    async def aclose(self) -> None:
        """Close all connections."""
        await self._driver.close()

    def _session(self) -> AsyncSession:
        return self._driver.session(database=self._database, default_access_mode=WRITE_ACCESS)

    async def _begin(self, first: Callable[[Open], Awaitable[T]], seconds: float) -> tuple[Open, T]:
        session = self._session()
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                transaction = await session.begin_transaction(timeout=seconds)
        except BaseException:
            await _drop(session)
            raise
        opened = Open(self.place, session, transaction)
        try:
            return opened, await first(opened)
        except BaseException:
            await opened.end()
            raise

    async def _attempts(self, attempt: Callable[[], Awaitable[T]]) -> T:
        latest, pause = time.monotonic() + RETRY_SECONDS, _FIRST_PAUSE
        with store_errors(self.place):
            while True:
                try:
                    return await attempt()
                except (DriverError, Neo4jError) as error:
                    if not error.is_retryable() or time.monotonic() + pause > latest:
                        raise
                await asyncio.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)


async def _drop(session: AsyncSession) -> None:
    """End a session's connection without a word; Neo4j undoes what was open."""
    session.cancel()
    await session.close()
