"""The values that pydantic makes of a call's arguments, written back as JSON.

FastMCP validates a function's arguments with pydantic, which converts: `"1000"` becomes 1000, an
upper-case UUID a lower-case one, a member's Python name is taken for its alias, `/etc//passwd`
becomes `/etc/passwd`. A rule sees JSON. So the values are written back by the names of the schema,
and a call whose arguments are not among them as they were sent is refused.
"""

from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from functools import lru_cache
from typing import Any, Final

from fastmcp.server.dependencies import without_injected_parameters
from fastmcp.utilities.types import get_cached_typeadapter
from pydantic import ValidationError
from pydantic_core import (
    PydanticSerializationError,
    SchemaSerializer,
    SchemaValidator,
    to_json,
    to_jsonable_python,
)

from mcp_plugin.exceptions import ArgumentsRefusedError

_UNSENT: Final = object()


def written_back(
    function: Callable[..., Any], sent: Mapping[str, Any], *, strict: bool
) -> dict[str, Any]:
    """Return the arguments that a function will get, as JSON, with the defaults of omitted ones.

    Args:
        function: the function behind a tool.
        sent: the call's arguments.
        strict: whether the server has `strict_input_validation`.

    Raises:
        ArgumentsRefusedError: pydantic refuses the arguments, or would convert them.
    """
    parameters = _parameters(function)
    found = parameters.write(sent, strict=strict)
    # A default that differs each time, such as a new UUID, is not the one that the tool will get.
    unstable = [name for name in found if name not in sent]
    if unstable and (again := parameters.write(sent, strict=strict)) != found:
        raise ArgumentsRefusedError(
            next(name for name in unstable if again.get(name) != found[name])
        )
    return found


class _Parameters:
    """A function's parameters: validated together, written back one by one."""

    def __init__(self, function: Callable[..., Any]) -> None:
        schema: Any = get_cached_typeadapter(without_injected_parameters(function)).core_schema
        definitions: list[Any] = []
        if schema["type"] == "definitions":
            definitions, schema = schema["definitions"], schema["schema"]

        def whole(part: Any) -> Any:
            if not definitions:
                return part
            return {"type": "definitions", "schema": part, "definitions": definitions}

        parameters = schema["arguments_schema"]["arguments_schema"]
        self._validator = SchemaValidator(whole({**schema, "function": _collected}))
        self._names = [one["name"] for one in parameters]
        self._shown = {one["name"]: _shown_name(one) for one in parameters}
        self._serializers = {
            one["name"]: SchemaSerializer(whole(one["schema"])) for one in parameters
        }

    def write(self, sent: Mapping[str, Any], *, strict: bool) -> dict[str, Any]:
        """Return the validated arguments as JSON, by the names that the tool's schema has."""
        try:
            positional, named = (
                self._validator.validate_json(to_json(sent), strict=True)
                if strict
                else self._validator.validate_python(sent)
            )
        except (ValidationError, PydanticSerializationError) as error:
            raise ArgumentsRefusedError(_first_name(error, sent)) from None
        found: dict[str, Any] = {}
        for name, value in {**dict(zip(self._names, positional, strict=False)), **named}.items():
            shown = self._shown[name]
            given = sent.get(shown, _UNSENT)
            try:
                plain = self._serializers[name].to_python(value, by_alias=True, warnings="none")
                written = _write(plain, given)
            except (PydanticSerializationError, _ConversionError, RecursionError):
                if given is not _UNSENT:
                    raise ArgumentsRefusedError(shown) from None
                continue  # a default that JSON has no form for
            found[shown] = written
        for name in sent:
            if name not in found:
                raise ArgumentsRefusedError(name)
        return found


@lru_cache(maxsize=1024)
def _parameters(function: Callable[..., Any]) -> _Parameters:
    return _Parameters(function)


def _collected(*positional: Any, **named: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    return positional, named


def _shown_name(parameter: Mapping[str, Any]) -> str:
    alias = parameter.get("alias")
    return alias if isinstance(alias, str) else str(parameter["name"])


def _first_name(error: Exception, sent: Mapping[str, Any]) -> str | None:
    """Return the parameter that pydantic complains about; None unless it is one's name."""
    if isinstance(error, ValidationError):
        place = error.errors(include_url=False, include_context=False, include_input=False)
        name = str(place[0]["loc"][0]) if place and place[0]["loc"] else None
        return name if name in sent else None
    return None


class _ConversionError(Exception):
    """A value is not equal to what was sent for it."""


def _write(value: Any, given: Any) -> Any:
    """Return a value as JSON, if what was sent for it is equal.

    Args:
        value: what pydantic made of it: plain containers, with objects of any class within.
        given: what was sent; `_UNSENT` for a default.

    Raises:
        _ConversionError: something else was sent.
        PydanticSerializationError: JSON has no form for it.
    """
    match value:
        case Mapping():
            return _write_object(value, given)
        case list() | tuple() | Iterator():
            return _write_list(list(value), given)
        case set() | frozenset():
            return _write_set(value, given)
        case Decimal():
            # As a number, so that a rule can compare it: a text is larger than any number in Rego.
            return _same(int(value) if value == value.to_integral_value() else float(value), given)
        case _ if hasattr(value, "get_secret_value"):
            return _same(value.get_secret_value(), given)
        case _:
            return _same(to_jsonable_python(value), given)


def _write_object(value: Mapping[Any, Any], given: Any) -> dict[str, Any]:
    sent = {} if given is _UNSENT else given
    if not isinstance(sent, Mapping):
        raise _ConversionError
    written = {}
    for key, one in value.items():
        name = to_jsonable_python(key)
        try:
            written[str(name)] = _write(one, sent.get(name, _UNSENT))
        except PydanticSerializationError:
            if name in sent:
                raise
    if not written.keys() >= sent.keys():
        raise _ConversionError
    return written


def _write_list(values: list[Any], given: Any) -> list[Any]:
    if given is _UNSENT:
        return [_write(one, _UNSENT) for one in values]
    if not isinstance(given, list) or len(given) != len(values):
        raise _ConversionError
    return [_write(one, sent) for one, sent in zip(values, given, strict=True)]


def _write_set(values: set[Any] | frozenset[Any], given: Any) -> list[Any]:
    """Return a set in the order that was sent: it has none of its own."""
    if given is _UNSENT:
        return sorted((_write(one, _UNSENT) for one in values), key=repr)
    if not isinstance(given, list) or len(given) != len(values):
        raise _ConversionError
    left, written = list(values), []
    for sent in given:
        for one in left:
            try:
                written.append(_write(one, sent))
            except _ConversionError:
                continue
            left.remove(one)
            break
        else:
            raise _ConversionError
    return written


def _same(written: Any, given: Any) -> Any:
    if given is _UNSENT:
        return written
    if isinstance(written, dict | list):  # an object whose class only JSON knows how to show
        return _write(written, given)
    numbers = all(isinstance(one, int | float) for one in (written, given))
    if isinstance(written, bool) or isinstance(given, bool) or not numbers:
        numbers = type(written) is type(given)
    if not numbers or written != given:
        raise _ConversionError
    return written
