"""The connection to Redis or Valkey: short timeouts, one retry, errors without the URL."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from lictor_common.authenticator import NAMESPACE

__all__ = ["NAMESPACE", "AbstractConnection", "Redis", "convert_errors", "create_client", "key"]


def create_client(
    url: str,
    *,
    timeout: float,
    invalid: Callable[[str], Exception],
    retry_timeouts: bool = False,
    name: str = "Redis' URL",
    **more: Any,
) -> Redis:
    """Create a client that connects on its first command.

    Args:
        url: `redis://`, `rediss://` or `unix://`; may hold a password, and is never quoted.
        timeout: seconds for a connection, and for a response.
        invalid: makes the error for a URL of another form.
        retry_timeouts: send a command once more also after a timeout.
        name: what the error's message calls the URL.
        more: further arguments of `Redis.from_url`.
    """
    retried = (RedisConnectionError, *([RedisTimeoutError] if retry_timeouts else []))
    try:
        return Redis.from_url(
            url,
            socket_timeout=timeout,
            socket_connect_timeout=timeout,
            # Once, for an idle connection that the server has closed. By default redis-py tries
            # ten times, which is longer than a decision or a lease may take.
            retry=Retry(NoBackoff(), 1, supported_errors=retried),
            **more,
        )
    except (ValueError, TypeError, AttributeError):
        # The invalid part may belong to the password.
        raise invalid(f"{name} is redis://, rediss:// or unix:// and a host or a path") from None


@contextmanager
def convert_errors(to: Callable[[str], Exception]) -> Iterator[None]:
    """Convert errors of Redis and its client, whose messages may hold the URL.

    Args:
        to: makes the error that is raised instead, from the name of the original's class.

    Raises:
        CancelledError: the task was cancelled meanwhile. redis-py uses `wait_for`, which before
            Python 3.12 loses a cancellation that comes with the result.
    """
    task = asyncio.current_task()
    before = task.cancelling() if task else 0
    try:
        yield
    except (RedisError, OSError, TimeoutError, ValueError, TypeError, LookupError) as error:
        # The last three come from values that redis-py, or the caller, cannot decode.
        if task and task.cancelling() > before:
            raise asyncio.CancelledError from None
        raise to(type(error).__name__) from None
    if task and task.cancelling() > before:
        raise asyncio.CancelledError


def key(namespace: str, name: str) -> str:
    """Return a key of a namespace; a Redis Cluster keeps all of them in one slot."""
    return f"{{{namespace}}}:{name}"
