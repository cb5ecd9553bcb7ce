"""Rego source as OPA parses it: syntax trees whose nodes know their place in the text."""

import base64
import json
import re
from bisect import bisect_right
from dataclasses import dataclass, field
from typing import Any

from bundles.opa_binary import OPA

Node = dict[str, Any]
Span = tuple[int, int]

_NUMBER = re.compile(r"-?\d+(\.\d+)?([eE][+-]?\d+)?")
_BEFORE = 8
"""OPA places a term in parentheses at what is inside of them; the text tells by how much."""


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
            OPAFailed: it is not Rego.
            UnicodeDecodeError: it is not UTF-8.
        """
        text = content.decode()
        tree = json.loads(
            opa.run(
                "parse", "--format=json", "--json-include=locations,-comments", "/dev/stdin",
                stdin=content,
            )
        )  # fmt: skip
        lines = [0, *(found.end() for found in re.finditer("\n", text))]
        return cls(path, text, tree, lines)

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


def call_name(terms: Any) -> str:
    """The name of the function that an expression or a call applies, or an empty text."""
    if not isinstance(terms, list) or not terms or terms[0].get("type") != "ref":
        return ""
    return ".".join(str(term["value"]) for term in terms[0]["value"])
