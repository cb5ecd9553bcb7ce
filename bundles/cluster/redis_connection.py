"""The connection to Redis or Valkey, with its limits said, and its errors without the URL."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from bundles.exceptions import LocationInvalidError, RedisUnavailableError

TIMEOUT = 1.0
"""Seconds for one answer. A lease must outlast several of them."""

_MOST_CONNECTIONS = 16


def connect(url: str, *, timeout: float = TIMEOUT) -> Redis:
    """A client that connects at its first command.

    Args:
        url: `redis://`, `rediss://` or `unix://`; may hold a password, and is never repeated.
        timeout: seconds for a connection, and for an answer.

    Raises:
        LocationInvalidError: the URL is not supported.
    """
    try:
        return Redis.from_url(
            url,
            socket_timeout=timeout,
            socket_connect_timeout=timeout,
            # Once, for a connection that the server has closed while it lay idle. By default
            # redis-py tries ten times, which is longer than a lease lasts.
            retry=Retry(NoBackoff(), 1),
            health_check_interval=1,
            max_connections=_MOST_CONNECTIONS,
        )
    except (ValueError, TypeError, AttributeError):
        # What was wrong may be a part of the password.
        raise LocationInvalidError(
            "LICTOR_REDIS_URL is redis://, rediss:// or unix:// and a host or a path"
        ) from None


@contextmanager
def redis_errors() -> Iterator[None]:
    """Turn what goes wrong between us and Redis into an error of ours.

    Raises:
        RedisUnavailableError: it cannot be reached, is slow, or refuses what it was asked.
        CancelledError: the task was cancelled meanwhile. redis-py uses `wait_for`, which before
            Python 3.12 loses a cancellation that comes with the result.
    """
    task = asyncio.current_task()
    before = task.cancelling() if task else 0
    try:
        yield
    except (RedisError, OSError, TimeoutError) as error:
        _check_cancelled(task, before)
        raise RedisUnavailableError(f"Redis did not do it ({type(error).__name__})") from None
    _check_cancelled(task, before)


def _check_cancelled(task: "asyncio.Task[Any] | None", before: int) -> None:
    if task and task.cancelling() > before:
        raise asyncio.CancelledError


def keys(namespace: str, *names: str) -> list[str]:
    """The keys of a namespace, which a Redis Cluster keeps in one place."""
    return [f"{{{namespace}}}:{name}" for name in names]
