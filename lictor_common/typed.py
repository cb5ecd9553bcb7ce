"""JSON as a dataclass: exactly its fields, each of its declared type."""

import dataclasses
import json
import math
import types
from collections.abc import Mapping
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

_MOST = 1 << 63

Record = TypeVar("Record")


def from_json(kind: type[Record], body: bytes) -> Record | None:
    """Return the dataclass that a JSON object describes; None for anything else.

    Integers are below 2^63, floats are finite, texts can be encoded.

    Args:
        kind: a dataclass with fields of `int`, `float`, `str`, `bool`, `Mapping`, or one of them
            and None.
        body: JSON.
    """
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        return None
    hints = get_type_hints(kind)
    names = {field.name for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    if not isinstance(content, dict) or content.keys() != names:
        return None
    if not all(_is_of(content[name], hints[name]) for name in names):
        return None
    return kind(**content)


def _is_of(value: Any, hint: Any) -> bool:
    origin = get_origin(hint) or hint
    if origin in {Union, types.UnionType}:
        return any(_is_of(value, one) for one in get_args(hint))
    if origin is float:
        is_number = type(value) in {int, float} and -_MOST < value < _MOST
        return is_number and math.isfinite(value)
    if origin is int:
        return type(value) is int and -_MOST < value < _MOST
    if origin is str:
        return isinstance(value, str) and not any("\ud800" <= char <= "\udfff" for char in value)
    if origin is Mapping:
        return isinstance(value, dict)
    return type(value) is origin
