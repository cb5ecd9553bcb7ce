"""The input of `lictor decide`, from flags and a file: an action and its context."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError

from lictor.exceptions import InvalidArgumentError
from pdp_client import Action

_LONGEST_FILE = 1 << 20


class _Given(BaseModel):
    """Everything about a call that a rule can read."""

    model_config = ConfigDict(extra="forbid", strict=True)

    method: str = "tools/call"
    name: str | None = None
    uri: str | None = None
    tags: list[str] = []
    arguments: dict[str, JsonValue] | None = None
    annotations: dict[str, JsonValue] | None = None
    version: str | None = None
    server: str = "lictor"
    transport: str = ""


@dataclass(frozen=True, slots=True)
class CallInput:
    """An action, and the MCP server and the transport of the call."""

    action: Action
    server: str
    transport: str


def read_call_input(file: Path | None, **flags: Any) -> CallInput:
    """Build the input; a flag takes precedence over the file.

    Args:
        file: a JSON object.
        flags: the members by name, None where a flag was not given; `arguments` and `annotations`
            as JSON text.

    Raises:
        InvalidArgumentError: the file or a flag is invalid, or neither names a call.
    """
    given = _Given.model_validate({}) if file is None else _from_file(file)
    changes = {}
    for name, value in flags.items():
        if value is not None:
            is_json = name in {"arguments", "annotations"}
            changes[name] = _from_flag(name, value) if is_json else value
    given = given.model_copy(update=changes)
    named = given.name if given.name is not None else given.uri
    if named is None:
        raise InvalidArgumentError("nothing to decide; give --tool, --name, --uri or --action")
    action = Action(
        name=named,
        method=given.method,
        tags=given.tags,
        arguments=given.arguments,
        annotations=given.annotations,
        version=given.version,
        uri=given.uri,
    )
    return CallInput(action, given.server, given.transport)


def _from_file(file: Path) -> _Given:
    try:
        with file.open("rb") as opened:
            content = opened.read(_LONGEST_FILE + 1)
    except OSError as error:
        raise InvalidArgumentError(f"--action {file}: {error.strerror}") from None
    if len(content) > _LONGEST_FILE:
        raise InvalidArgumentError(f"--action {file}: larger than {_LONGEST_FILE >> 20} MiB")
    try:
        return _Given.model_validate_json(content)
    except ValidationError as error:
        raise InvalidArgumentError(f"--action {file}: {_first(error)}") from None


def _from_flag(name: str, text: str) -> dict[str, Any]:
    try:
        given = _Given.model_validate({name: json.loads(text)})
    except ValidationError as error:
        raise InvalidArgumentError(f"--{name}: {_first(error)}") from None
    except (ValueError, RecursionError):
        raise InvalidArgumentError(f"--{name}: not JSON") from None
    value: dict[str, Any] = getattr(given, name)
    return value


def _first(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False)[0]
    place = ".".join(map(str, first["loc"]))
    return f"{place}: {first['msg']}" if place else str(first["msg"])
