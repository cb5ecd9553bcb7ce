"""The connection to Redis or Valkey: a decision waits for it, so its timeouts are short."""

from contextlib import AbstractContextManager
from typing import Any

from lictor_common.redis import Redis, convert_errors, create_client
from pdp_client.exceptions import ConfigurationError
from pdp_client.shared.exceptions import SharedStateUnavailableError

__all__ = ["TIMEOUT", "SharedStateUnavailableError", "connect", "redis_errors"]

TIMEOUT = 0.1
"""Seconds for a connection, and for a response."""


def connect(url: str, *, timeout: float = TIMEOUT, **more: Any) -> Redis:
    """Create a client as `create_client` does.

    Raises:
        ConfigurationError: the URL is invalid.
    """
    return create_client(url, timeout=timeout, invalid=ConfigurationError, **more)


def redis_errors() -> AbstractContextManager[None]:
    """Convert errors of Redis and its client into `SharedStateUnavailableError`."""
    return convert_errors(SharedStateUnavailableError)
