"""The connection to Redis or Valkey: short timeouts, no retries, errors without the URL.

`bundles.cluster.redis_connection` is similar: neither package may import the other.
"""

import asyncio
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from pdp_client.exceptions import ConfigurationError, PDPError

TIMEOUT = 0.1
"""Seconds for a connection, and for a response. A decision waits for them."""

NAMESPACE = "lictor"
"""The default prefix of every key; `lictor serve` has the same."""


class SharedStateUnavailableError(PDPError):
    """Redis did not respond in time, or its response is not trustworthy."""

    code = "redis_unavailable"


def connect(url: str, *, timeout: float = TIMEOUT, **more: Any) -> Redis:
    """Create a client that connects on its first command.

    Args:
        url: `redis://`, `rediss://` or `unix://`; may hold a password, and is never quoted.
        timeout: seconds for a connection, and for a response.
        more: further arguments of `Redis.from_url`.

    Raises:
        ConfigurationError: the URL has another form.
    """
    try:
        return Redis.from_url(
            url,
            socket_timeout=timeout,
            socket_connect_timeout=timeout,
            # Once, for an idle connection that the server has closed. By default redis-py tries
            # ten times, which is longer than any decision may take.
            retry=Retry(NoBackoff(), 1, supported_errors=(RedisConnectionError,)),
            **more,
        )
    except (ValueError, TypeError, AttributeError):
        # The invalid part may belong to the password.
        raise ConfigurationError(
            "Redis' URL is redis://, rediss:// or unix:// and a host or a path"
        ) from None


@contextmanager
def redis_errors() -> Iterator[None]:
    """Convert errors of Redis and its client into `SharedStateUnavailableError`.

    Raises:
        SharedStateUnavailableError: Redis cannot be reached, is slow, or refuses a command.
        CancelledError: the task was cancelled meanwhile. redis-py uses `wait_for`, which before
            Python 3.12 loses a cancellation that comes with the result.
    """
    task = asyncio.current_task()
    before = task.cancelling() if task else 0
    try:
        yield
    except (RedisError, OSError, TimeoutError) as error:
        if task and task.cancelling() > before:
            raise asyncio.CancelledError from None
        raise SharedStateUnavailableError(type(error).__name__) from None
    if task and task.cancelling() > before:
        raise asyncio.CancelledError


def redis_run_id(info: object) -> str:
    """Return the id that a Redis process assigned itself at startup, from its `INFO server`."""
    text = info.decode() if isinstance(info, bytes) else str(info)
    found = re.search(r"run_id:(\w+)", text)
    return found[1] if found else ""


def key(namespace: str, name: str) -> str:
    """Return a key of a namespace; a Redis Cluster keeps all of them in one slot."""
    return f"{{{namespace}}}:{name}"
