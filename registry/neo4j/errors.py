"""Conversion of the driver's errors into the registry's."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from neo4j.exceptions import DriverError, Neo4jError

from registry.exceptions import RegistryError, RegistryUnavailableError, UnreadableRegistryError

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def store_errors(place: str) -> Iterator[None]:
    """Convert the driver's errors into the registry's.

    Args:
        place: the Neo4j's address, for the message.

    Raises:
        RegistryUnavailableError: Neo4j does not respond, not in time, or refuses access.
        UnreadableRegistryError: the database does not fit the query.
    """
    try:
        yield
    except TimeoutError as error:
        raise RegistryUnavailableError(f"{place} does not answer in time") from error
    except Neo4jError as error:
        raise _as_registry_error(place, error) from error
    except (DriverError, OSError) as error:
        # These errors are about addresses and connections; the last line has the cause.
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise RegistryUnavailableError(f"{place} does not answer: {lines[-1]}") from error


def _as_registry_error(place: str, error: Neo4jError) -> RegistryError:
    # Neo4j's messages may quote values; its codes do not.
    code = error.code or type(error).__name__
    if code.startswith("Neo.ClientError.Security."):
        return RegistryUnavailableError(f"{place} refuses the user or the password: {code}")
    if code == "Neo.ClientError.Database.DatabaseNotFound":
        return UnreadableRegistryError(f"{place} has no such database; correct the URL")
    if code.startswith("Neo.ClientError.Statement."):
        return UnreadableRegistryError(f"{place} cannot run a query of the registry: {code}")
    return RegistryUnavailableError(f"{place} does not answer: {code}")
