"""The connection to Redis or Valkey: short limits, nothing tried twice, errors without the URL.

`bundles.cluster.redis_connection` is much like it: neither room may import the other.
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
"""Seconds for a connection, and for an answer. A decision waits for them."""

NAMESPACE = "lictor"
"""Before every key, unless said otherwise; `lictor serve` has the same."""


class SharedUnavailable(PDPError):  # noqa: N818 - the state, as in `pdp_client.exceptions`
    """Redis did not answer in time, or answered what cannot be believed."""

    code = "redis_unavailable"


def connect(url: str, *, timeout: float = TIMEOUT, **more: Any) -> Redis:
    """A client that connects at its first command.

    Args:
        url: `redis://`, `rediss://` or `unix://`; may hold a password, and is never repeated.
        timeout: seconds for a connection, and for an answer.
        more: as of `Redis.from_url`.

    Raises:
        ConfigurationError: it is no such URL.
    """
    try:
        return Redis.from_url(
            url,
            socket_timeout=timeout,
            socket_connect_timeout=timeout,
            # Once, for a connection that the server has closed while it lay idle. By default
            # redis-py tries ten times, which is longer than any decision may take.
            retry=Retry(NoBackoff(), 1, supported_errors=(RedisConnectionError,)),
            **more,
        )
    except (ValueError, TypeError, AttributeError):
        # What was wrong may be a part of the password.
        raise ConfigurationError(
            "Redis' URL is redis://, rediss:// or unix:// and a host or a path"
        ) from None


@contextmanager
def redis_errors() -> Iterator[None]:
    """Turn what goes wrong between us and Redis into an error of ours.

    Raises:
        SharedUnavailable: it cannot be reached, is slow, or refuses what it was asked.
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
        raise SharedUnavailable(type(error).__name__) from None
    if task and task.cancelling() > before:
        raise asyncio.CancelledError


def redis_run_id(info: object) -> str:
    """The id that a Redis process gave itself at its start, out of its `INFO server`."""
    text = info.decode() if isinstance(info, bytes) else str(info)
    found = re.search(r"run_id:(\w+)", text)
    return found[1] if found else ""


def key(namespace: str, name: str) -> str:
    """A key of a namespace, which a Redis Cluster keeps in one place with its others."""
    return f"{{{namespace}}}:{name}"
