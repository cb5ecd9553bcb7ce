"""One Neo4j: its driver, and transactions that never hang.

All queries go to a cluster's leader, even reads: a follower may not have a revocation yet.
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
"""Seconds to wait for a connection, new or pooled; also for closing one."""
RETRY_SECONDS = 5.0
"""Seconds for which an operation that failed before it changed anything is retried."""
ANSWER_SECONDS = 10.0
"""Seconds that a small query may take, and that a transaction waits for a lock."""
LONG_SECONDS = 120.0
"""Seconds that a query over all records of a kind, or a commit, may take."""
TRANSACTION_SECONDS = 600.0
"""Seconds after which Neo4j ends a transaction, so that a hung writer stops blocking others."""

_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 1.0


class Open:
    """An open transaction. It raises the driver's errors unchanged: see `store_errors`."""

    def __init__(self, place: str, session: AsyncSession, transaction: AsyncTransaction) -> None:
        self.place = place
        self._session = session
        self._transaction = transaction

    async def run(self, query: str, *, seconds: float = ANSWER_SECONDS, **parameters: Any) -> Any:
        """Run a query that returns at most one row, with one column; return None without a row."""
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
        """Commit. After an error, the commit may or may not have taken place."""
        async with asyncio.timeout(LONG_SECONDS):
            await self._transaction.commit()

    async def end(self) -> None:
        """Roll back what is not committed. Never fails: an unresponsive connection is dropped."""
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
    """A pool of connections to one Neo4j; it connects on first use."""

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
        """Run reads in one transaction, and retry if that may help.

        Args:
            work: reads, without changes.
            seconds: how long one attempt may take; Neo4j then aborts it too.

        Raises:
            RegistryUnavailableError, UnreadableRegistryError: see `store_errors`.
        """

        async def attempt() -> T:
            async with asyncio.timeout(seconds):
                opened, answer = await self._begin(work, seconds)
            await opened.end()
            return answer

        return await self._attempts(attempt)

    async def begin(self, first: Callable[[Open], Awaitable[T]]) -> tuple[Open, T]:
        """Open a transaction, and retry if that may help; the caller ends it.

        Args:
            first: the first step in it, such as acquiring a lock; it must not write records.

        Raises:
            RegistryUnavailableError: another writer holds a lock too long; see `store_errors`.
        """
        return await self._attempts(lambda: self._begin(first, TRANSACTION_SECONDS))

    async def run_alone(self, query: str) -> None:
        """Run one statement that needs its own transaction, such as a schema change.

        Raises:
            Neo4jError: unchanged; its meaning depends on the statement.
            RegistryUnavailableError, UnreadableRegistryError: see `store_errors`.
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
    """Drop a session's connection without closing it; Neo4j rolls back open transactions."""
    session.cancel()
    await session.close()
