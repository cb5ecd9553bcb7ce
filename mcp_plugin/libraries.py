"""Enforcement of allowed libraries: checked as arguments, and bound into queries."""

import functools
import inspect
import re
from collections.abc import Callable, Iterable
from typing import Any, Final, TypeVar

from mcp_plugin.context import current_libraries
from mcp_plugin.cypher_bounds import why_not_limited as why_not_limited_cypher
from mcp_plugin.exceptions import LibraryNotAllowed
from mcp_plugin.sql_bounds import why_not_limited as why_not_limited_sql

Function = TypeVar("Function", bound=Callable[..., Any])

_NAME: Final = "libraries"
_SQL_QUOTES: Final = r"""'(?:[^']|'')*'|"(?:[^"]|"")*"|`[^`]*`|--[^\n]*|/\*.*?\*/"""
_SQL_PLACE: Final = re.compile(r"\bIN\s*\(\s*(:libraries)\s*\)", re.IGNORECASE)


def allowed(library: str) -> bool:
    """Return whether the running request may touch a library.

    Raises:
        LibrariesUnavailable: the request has no authenticated decision.
    """
    return library in current_libraries()


def checks_libraries(*parameters: str) -> Callable[[Function], Function]:
    """Run a function only for libraries that its caller may touch.

    ```python
    @mcp.tool
    @checks_libraries("library")
    async def add(library: str, title: str) -> None: ...
    ```

    An argument is one library, or a list, tuple or set of them. Anything else, None included, is
    refused: it could stand for more than the caller has. Libraries that the caller may not touch
    and libraries that do not exist are refused with the same error (`LibraryNotAllowed`).

    Args:
        parameters: the names of the parameters that hold libraries.

    Raises:
        TypeError: on decoration, if the function does not have such a parameter.
    """

    def decorate(function: Function) -> Function:
        signature = inspect.signature(function)
        unknown = [name for name in parameters if name not in signature.parameters]
        if unknown or not parameters:
            raise TypeError(f"{function.__name__} has no parameter {', '.join(unknown) or 'named'}")

        def check(args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            may = frozenset(current_libraries())
            given = signature.bind(*args, **kwargs)
            given.apply_defaults()
            for name in parameters:
                if not may.issuperset(_named(given.arguments[name])):
                    raise LibraryNotAllowed

        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def checked(*args: Any, **kwargs: Any) -> Any:
                check(args, kwargs)
                return await function(*args, **kwargs)

        else:

            @functools.wraps(function)
            def checked(*args: Any, **kwargs: Any) -> Any:
                check(args, kwargs)
                return function(*args, **kwargs)

        return checked  # type: ignore[return-value]  # it has the signature of what it wraps

    return decorate


def cypher(query: str, **parameters: Any) -> tuple[str, dict[str, Any]]:
    """Return a Cypher query with the caller's libraries bound as `$libraries`.

    ```python
    driver.execute_query(*cypher("MATCH (d:Document) WHERE d.library IN $libraries RETURN d"))
    ```

    Args:
        query: has a WHERE with `property IN $libraries`, in each part of a UNION, joined to other
            conditions by AND alone.
        parameters: the query's others.

    Returns:
        The query and its parameters.

    Raises:
        LibrariesUnavailable: the running request has no authenticated decision.
        ValueError: the query cannot be shown to be limited to the libraries (see
            `mcp_plugin.cypher_bounds`), or gets them as a parameter.
    """
    _check(query, why_not_limited_cypher(query), parameters)
    return query, {**parameters, _NAME: current_libraries()}


def sql(query: str, **parameters: Any) -> tuple[str, dict[str, Any]]:
    """Return a SQL query with the caller's libraries bound as named parameters, one for each.

    ```python
    connection.execute(*sql("SELECT title FROM document WHERE library IN (:libraries)"))
    ```

    For drivers with the paramstyle `named` (PEP 249), such as sqlite3, and SQLAlchemy's `text`.
    Without any library nothing matches. The bound is checked, and not which tables it is about: a
    join can still add rows of other libraries from a table without a bound of its own.

    Args:
        query: has a WHERE with `column IN (:libraries)`, in each SELECT of a UNION, joined to other
            conditions by AND alone.
        parameters: the query's others.

    Returns:
        The query and its parameters.

    Raises:
        LibrariesUnavailable: as `cypher`.
        ValueError: as `cypher`; see `mcp_plugin.sql_bounds`.
    """
    _check(query, why_not_limited_sql(query), parameters)
    blanked = _blanked(query, _SQL_QUOTES)
    if len(_SQL_PLACE.findall(blanked)) != blanked.count(f":{_NAME}"):
        raise ValueError(f"write the query's libraries as IN (:{_NAME}): {query}")
    bound = {f"{_NAME}_{n}": uid for n, uid in enumerate(current_libraries())}
    listed = ", ".join(f":{name}" for name in bound) or "NULL"
    for place in reversed([*_SQL_PLACE.finditer(blanked)]):
        query = f"{query[: place.start(1)]}{listed}{query[place.end(1) :]}"
    return query, {**parameters, **bound}


def _check(query: str, problem: str, parameters: dict[str, Any]) -> None:
    if any(name.startswith(_NAME) for name in parameters):
        raise ValueError(
            "the query's libraries come from its caller; do not pass them as a parameter"
        )
    if problem:
        raise ValueError(f"the query is not limited to its libraries: {problem}: {query}")


def _blanked(query: str, quotes: str) -> str:
    """Return the query with its strings and comments blanked, at unchanged positions."""
    return re.sub(quotes, lambda found: " " * len(found[0]), query, flags=re.DOTALL)


def _named(given: Any) -> Iterable[str]:
    libraries = [given] if isinstance(given, str) else given
    if not isinstance(libraries, list | tuple | set | frozenset):
        raise LibraryNotAllowed
    return libraries
