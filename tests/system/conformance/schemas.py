"""Tools that are there for their schemas."""

import json

from fastmcp.tools import Tool, ToolResult

SCHEMA = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "$defs": {
        "address": {
            "$anchor": "addressDef",
            "type": "object",
            "properties": {"street": {"type": "string"}, "city": {"type": "string"}},
        }
    },
    "properties": {
        "name": {"type": "string"},
        "address": {"$ref": "#/$defs/address"},
        "contactMethod": {"type": "string", "enum": ["phone", "email"]},
        "phone": {"type": "string"},
        "email": {"type": "string"},
    },
    "allOf": [{"anyOf": [{"required": ["phone"]}, {"required": ["email"]}]}],
    "if": {"properties": {"contactMethod": {"const": "phone"}}, "required": ["contactMethod"]},
    "then": {"required": ["phone"]},
    "else": {"required": ["email"]},
    "additionalProperties": False,
}
MIRRORED = {
    "type": "object",
    "properties": {"region": {"type": "string", "x-mcp-header": "Region"}},
    "required": ["region"],
}


class Plain(Tool):
    """A tool whose schema is given, not derived."""

    async def run(self, arguments):
        return ToolResult(content=json.dumps(arguments))


def add_schemas(mcp):
    """Tools that are there for their schemas."""
    for name, schema in (("json_schema_2020_12_tool", SCHEMA), ("test_mirrored_header", MIRRORED)):
        mcp.add_tool(Plain(name=name, description="Its schema counts.", parameters=schema))
