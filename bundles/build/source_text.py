"""Rego source as OPA parses it: syntax trees whose nodes know their place in the text."""

import base64
import json
import re
from bisect import bisect_right
from dataclasses import dataclass, field
from typing import Any

from bundles.exceptions import OPAFailedError
from bundles.opa.binary import OPA

Node = dict[str, Any]
Span = tuple[int, int]

_NUMBER = re.compile(r"-?\d+(\.\d+)?([eE][+-]?\d+)?")
_BEFORE = 8
"""OPA locates a parenthesised term at its content; the text shows by how much."""


@dataclass(frozen=True, slots=True)
class SourceText:
    """One file's text, its syntax tree, and where each node of the tree is in the text.

    Attributes:
        path: the file, relative to the folder that it came from.
        text: what is in it.
        tree: what `opa parse` made of it, with locations.
    """

    path: str
    text: str
    tree: Node
    _lines: list[int] = field(default_factory=list)

    @classmethod
    def parse(cls, opa: OPA, path: str, content: bytes) -> "SourceText":
        """Parse a file's content.

        Raises:
            OPAFailedError: it is not Rego.
            UnicodeDecodeError: it is not UTF-8.
        """
        text = content.decode()
        include = "--json-include=locations,-comments"
        try:
            printed = opa.run("parse", "--format=json", include, "/dev/stdin", stdin=content)
        except OPAFailedError as error:
            raise OPAFailedError(_in_words(path, str(error))) from None
        lines = [0, *(found.end() for found in re.finditer("\n", text))]
        return cls(path, text, json.loads(printed), lines)

    def span(self, node: Node) -> Span | None:
        """The place of a node, or None where OPA's location does not agree with the text."""
        location = node.get("location")
        if not location:
            return None
        there = base64.b64decode(location["text"]).decode()
        start = self._lines[location["row"] - 1] + location["col"] - 1
        if node.get("type") == "number":
            number = _NUMBER.match(self.text, start)
            return number.span() if number else None
        if node.get("type") == "set" and self.text.startswith("set()", start):
            return start, start + len("set()")
        for begin in range(start, max(-1, start - _BEFORE), -1):
            if self.text.startswith(there, begin):
                return begin, begin + len(there)
        return None

    def row(self, offset: int) -> int:
        """The number of the line that an offset is in, from 1."""
        return bisect_right(self._lines, offset)

    def line_start(self, offset: int) -> int:
        """Where the line of an offset begins."""
        return self._lines[self.row(offset) - 1]


def _in_words(path: str, printed: str) -> str:
    """OPA's errors of a parse, which it prints as JSON."""
    try:
        errors = json.loads(printed)["errors"]
        return "\n".join(
            f"{path}:{error['location']['row']}:{error['location']['col']}: {error['message']}"
            for error in errors
        )
    except (ValueError, KeyError, TypeError):
        return f"{path}: {printed}"


def call_name(terms: Any) -> str:
    """The name of the function that an expression or a call applies, or an empty text."""
    if not isinstance(terms, list) or not terms or terms[0].get("type") != "ref":
        return ""
    return ".".join(str(term["value"]) for term in terms[0]["value"])
