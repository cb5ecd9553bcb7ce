"""A call's arguments with a JSON Schema's defaults, for tools whose own validation is out of sight.

Tools of proxies, of OpenAPI documents and of other transports convert elsewhere. Only arguments
that no reader of the schema could take for others are accepted: no conversion, no member that the
schema does not name, each date, UUID and path in its canonical spelling.
"""

import copy
import itertools
import logging
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import date, datetime, time, timedelta
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from jsonschema import Draft202012Validator, FormatChecker
from jsonschema.protocols import Validator
from jsonschema.validators import validator_for
from pydantic import TypeAdapter
from referencing import Registry

from mcp_plugin.exceptions import ArgumentsRefusedError

Schema = Mapping[str, Any] | bool

_MOST_STEPS: Final = 10_000
"""Values looked at for one call; unions within unions would take exponential time."""

_FORMATS: Final[dict[str, Any]] = {
    "date": date, "date-time": datetime, "time": time, "duration": timedelta, "uuid": UUID,
    "ipv4": IPv4Address, "ipv6": IPv6Address, "path": Path,
}  # fmt: skip

_log = logging.getLogger(__name__)


def apply_defaults(schema: Schema, sent: Mapping[str, Any]) -> dict[str, Any]:
    """Return arguments with the schema's defaults for omitted ones, at any depth.

    Args:
        schema: JSON Schema, as the tool's list entry shows it; references within it only.
        sent: the arguments.

    Raises:
        ArgumentsRefusedError: the arguments do not fit the schema without conversion, or branches
            of a union that fit have different defaults.
    """
    try:
        # A registry of its own: jsonschema would fetch references to other documents.
        validator: Validator = validator_for(schema, default=Draft202012Validator)(
            schema, registry=Registry(), format_checker=_CANONICAL
        )
        wrong = next(validator.iter_errors({**sent}), None)
        if wrong is None:
            found: dict[str, Any] = _Filling(validator).fill([schema], {**sent}, ())
            return found
        place = next(iter(wrong.absolute_path), None)
    except ArgumentsRefusedError:
        raise
    except Exception as error:  # noqa: BLE001 - the schema is the server's own; what it breaks is
        _log.warning("mcp_auth.schema error=%s", type(error).__name__)
        place = None
    raise ArgumentsRefusedError(place if isinstance(place, str) else None)


def top_level_defaults(schema: Schema) -> dict[str, Any]:
    """Return the defaults of a schema's own properties."""
    properties = schema.get("properties", {}) if isinstance(schema, Mapping) else {}
    return {
        name: copy.deepcopy(one["default"])
        for name, one in properties.items()
        if isinstance(one, Mapping) and "default" in one
    }


class _Filling:
    """One pass over a call's arguments, which are valid."""

    def __init__(self, validator: Validator) -> None:
        self._validator = validator
        self._steps = 0

    def fill(self, schemas: Sequence[Schema], value: Any, path: tuple[Any, ...]) -> Any:
        """Return a value with the defaults of the schemas that apply to it."""
        self._steps += 1
        if self._steps > _MOST_STEPS:
            raise ArgumentsRefusedError(_parameter(path))
        if not isinstance(value, dict | list):
            return value
        results: list[Any] = []
        refusal = ArgumentsRefusedError(_parameter(path))
        for reading in self._readings(schemas, value):
            try:
                found = self._fill_as(reading, value, path)
            except ArgumentsRefusedError as error:
                refusal = error  # this branch of a union is not the one that was meant
                continue
            if found not in results:
                results.append(found)
        if len(results) != 1:
            raise refusal
        return results[0]

    def _fill_as(
        self, schemas: Sequence[Mapping[str, Any]], value: Any, path: tuple[Any, ...]
    ) -> Any:
        if isinstance(value, list):
            return [
                self.fill([_of_item(one, index) for one in schemas], item, (*path, index))
                for index, item in enumerate(value)
            ]
        found = {
            name: self.fill(_of_member(schemas, name, path), member, (*path, name))
            for name, member in value.items()
        }
        for one in schemas:
            for name, default in top_level_defaults(one).items():
                found.setdefault(name, default)
        return found

    def _readings(self, schemas: Sequence[Schema], value: Any) -> Iterator[list[Mapping[str, Any]]]:
        """Yield the flat lists of schemas that may apply: one for each choice among unions."""
        flat: list[Mapping[str, Any]] = []
        choices: list[list[Schema]] = []
        waiting = list(schemas)
        while waiting:
            schema = waiting.pop(0)
            if not isinstance(schema, Mapping):
                continue
            flat.append(schema)
            waiting += schema.get("allOf", ())
            if "$ref" in schema:
                waiting.append(_referred(self._validator.schema, schema["$ref"]))
            for name in ("anyOf", "oneOf"):
                fitting = [
                    one
                    for one in schema.get(name, ())
                    if self._validator.evolve(schema=one).is_valid(value)
                ]
                if fitting:
                    choices.append(fitting)
        for chosen in itertools.product(*choices):
            if not chosen:
                yield flat
                continue
            for rest in self._readings(chosen, value):
                yield [*flat, *rest]


def _of_item(schema: Mapping[str, Any], index: int) -> Schema:
    first: Sequence[Schema] = schema.get("prefixItems", ())
    found: Schema = first[index] if index < len(first) else schema.get("items", True)
    return found


def _of_member(
    schemas: Sequence[Mapping[str, Any]], name: str, path: tuple[Any, ...]
) -> list[Schema]:
    """Return the schemas of an object's member.

    Raises:
        ArgumentsRefusedError: the schemas name members, and this is not one of them.
    """
    named: list[Schema] = [
        *(one["properties"][name] for one in schemas if name in one.get("properties", {})),
        *(True for one in schemas if name in one.get("required", ())),
        *(
            schema
            for one in schemas
            for pattern, schema in one.get("patternProperties", {}).items()
            if re.search(pattern, name)
        ),
    ]
    others: list[Schema] = [
        one["additionalProperties"] for one in schemas if "additionalProperties" in one
    ]
    describes = any("properties" in one or "patternProperties" in one for one in schemas)
    if not named and not others and describes:
        raise ArgumentsRefusedError(_parameter((*path, name)))
    return named or others


def _referred(schema: Any, reference: str) -> Any:
    """Resolve a reference within the schema, such as `#/$defs/Shelf` (RFC 6901)."""
    for part in reference.removeprefix("#").split("/")[1:]:
        schema = schema[part.replace("~1", "/").replace("~0", "~")]
    return schema


def _parameter(path: Sequence[Any]) -> str | None:
    return str(path[0]) if path else None


def _check_of(form: Any) -> Callable[[object], bool]:
    adapter = TypeAdapter(form)

    def is_canonical(value: object) -> bool:
        if not isinstance(value, str):
            return True  # the schema's type says whether it may be something else
        return bool(adapter.dump_python(adapter.validate_python(value), mode="json") == value)

    return is_canonical


def _canonical() -> FormatChecker:
    checker = FormatChecker(formats=())
    for name, form in _FORMATS.items():
        checker.checks(name, raises=ValueError)(_check_of(form))
    return checker


_CANONICAL: Final = _canonical()
