"""The connection to Redis or Valkey that several servers share."""

from contextlib import AbstractContextManager

from bundles.exceptions import LocationInvalidError, RedisUnavailableError
from lictor_common.redis import Redis, convert_errors, create_client

TIMEOUT = 1.0
"""Seconds for a response. A lease must outlast several of them."""


def connect(url: str, *, timeout: float = TIMEOUT) -> Redis:
    """Create a client as `create_client` does.

    Raises:
        LocationInvalidError: the URL is invalid.
    """
    return create_client(
        url,
        timeout=timeout,
        invalid=LocationInvalidError,
        name="LICTOR_REDIS_URL",
        retry_timeouts=True,
        health_check_interval=1,
        max_connections=16,
    )


def redis_errors() -> AbstractContextManager[None]:
    """Convert errors of Redis and its client into `RedisUnavailableError`."""
    return convert_errors(lambda name: RedisUnavailableError(f"Redis did not do it ({name})"))
