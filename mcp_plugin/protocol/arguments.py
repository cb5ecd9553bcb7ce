"""The arguments that a tool will run with, where a site's rules read them.

FastMCP lets pydantic convert a call's arguments to the types of the tool's signature: `"1000"`
becomes 1000, `"yes"` becomes True, an omitted argument its default. A rule sees JSON. So that both
mean the same, arguments that need conversion are refused, and the decision includes defaults.
"""

import copy
import logging
from collections.abc import Mapping, Sequence
from typing import Any

from fastmcp.tools import Tool
from jsonschema import Draft202012Validator
from jsonschema.protocols import Validator
from jsonschema.validators import validator_for
from referencing import Registry

from mcp_plugin.enforcer import Enforcer, named
from mcp_plugin.exceptions import ArgumentsRefusedError
from mcp_plugin.http.request import Caller
from mcp_plugin.protocol import actions
from pdp_client import Decision

_log = logging.getLogger(__name__)

Schema = Mapping[str, Any] | bool


async def enforce(
    enforcer: Enforcer, caller: Caller, name: str, tool: Tool | None, sent: Mapping[str, Any]
) -> Decision:
    """Decide a call on the arguments that it will run with, and return the decision.

    Args:
        enforcer: queries the PDP.
        caller: the caller that sent it.
        name: the tool's name.
        tool: the tool that will run; None if it does not exist.
        sent: the call's arguments.

    Raises:
        CallDenied: the call is denied.
        ArgumentsRefusedError: rules read the arguments, and the tool would get different ones.
    """
    given = {**(_defaults(tool.parameters) if tool else {}), **sent}
    action = actions.call(name, tool, given)
    decision = await enforcer.enforce(caller, action)
    if tool is None or not decision.uses_arguments:
        return decision
    try:
        # After the decision: a caller that may not call a tool learns nothing of its parameters.
        whole = apply_defaults(tool.parameters, sent)
    except ArgumentsRefusedError as refused:
        watched = enforcer.watches(action)
        said = "would_deny" if watched else "denied"
        _log.info("mcp_auth.%s %s reason=%s", said, named(action), refused.code)
        if watched:
            return decision
        raise
    return (
        decision
        if whole == given
        else await enforcer.enforce(caller, actions.call(name, tool, whole))
    )


def apply_defaults(schema: Schema, sent: Mapping[str, Any]) -> dict[str, Any]:
    """Return arguments with the schema's defaults for omitted ones, at any depth.

    Args:
        schema: JSON Schema, as the tool's list entry shows it; references within it only.
        sent: the arguments.

    Raises:
        ArgumentsRefusedError: the arguments do not fit the schema without conversion.
    """
    try:
        # A registry of its own: jsonschema would fetch references to other documents.
        validator = validator_for(schema, default=Draft202012Validator)(schema, registry=Registry())
        whole = copy.deepcopy({**sent})
        if validator.is_valid(whole):
            _fill(validator, schema, whole)
            return whole
    except Exception as error:  # noqa: BLE001 - the schema is the server's own; what it breaks is
        _log.warning("mcp_auth.schema error=%s", type(error).__name__)
    raise ArgumentsRefusedError


def _defaults(schema: Schema) -> dict[str, Any]:
    properties = schema.get("properties", {}) if isinstance(schema, Mapping) else {}
    return {
        name: copy.deepcopy(one["default"])
        for name, one in properties.items()
        if isinstance(one, Mapping) and "default" in one
    }


def _fill(validator: Validator, schema: Schema, value: Any) -> None:
    """Put defaults into a valid value."""
    if not isinstance(schema, Mapping):
        return
    for one in _applying(validator, schema, value):
        _fill(validator, one, value)
    if isinstance(value, dict):
        known = schema.get("properties", {})
        for name, member in value.items():
            _fill(validator, known.get(name, schema.get("additionalProperties", True)), member)
        for name, default in _defaults(schema).items():
            value.setdefault(name, default)
    if isinstance(value, list):
        first: Sequence[Schema] = schema.get("prefixItems", ())
        for index, item in enumerate(value):
            inner = first[index] if index < len(first) else schema.get("items", True)
            _fill(validator, inner, item)


def _applying(validator: Validator, schema: Mapping[str, Any], value: Any) -> list[Schema]:
    """Return the subschemas that apply to a value: all of some, the first match of others."""
    found: list[Schema] = [*schema.get("allOf", ())]
    if "$ref" in schema:
        found.append(_referred(validator.schema, schema["$ref"]))
    for name in ("anyOf", "oneOf"):
        fitting = (
            one for one in schema.get(name, ()) if validator.evolve(schema=one).is_valid(value)
        )
        found += [one for one in [next(fitting, None)] if one is not None]
    return found


def _referred(schema: Any, reference: str) -> Any:
    """Resolve a reference within the schema, such as `#/$defs/Shelf` (RFC 6901)."""
    for part in reference.removeprefix("#").split("/")[1:]:
        schema = schema[part.replace("~1", "/").replace("~0", "~")]
    return schema
