"""Rego as OPA parses it: modules, their rules, and where in a file each node stands."""

import json
import os
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from bundles.build.site_folder import SourceFile
from bundles.exceptions import OPAFailedError, PolicyRefusedError
from bundles.opa.binary import OPA
from lictor_common.text import printable

Node = dict[str, Any]
"""A node of OPA's syntax tree, as `opa parse --format json --json-include locations` prints it."""

MAX_FINDINGS = 20


@dataclass(frozen=True, slots=True, order=True)
class Location:
    """A place in a site's file: rows and columns count from 1."""

    path: str
    row: int
    col: int

    def __str__(self) -> str:
        return f"{self.path}:{self.row}:{self.col}"


@dataclass(frozen=True, slots=True, order=True)
class RuleFinding:
    """Something that keeps a site's rules from being signed.

    Attributes:
        location: where it is.
        message: what is wrong and what to do, printable.
        line: the source line, printable.
    """

    location: Location
    message: str
    line: str = ""

    def __str__(self) -> str:
        quoted = f"\n    {self.line.strip()}" if self.line.strip() else ""
        return f"{self.location}: {self.message}{quoted}"


@dataclass(frozen=True)
class Module:
    """One parsed file."""

    file: SourceFile
    tree: Node

    @cached_property
    def package(self) -> tuple[str, ...]:
        """The package's path without `data`, such as `("site", "hours")`."""
        return tuple(str(term["value"]) for term in self.tree["package"]["path"][1:])

    @cached_property
    def rules(self) -> list["Rule"]:
        """The rules in the order of the file, each with its `else` branches inside."""
        return [Rule(self, node) for node in self.tree.get("rules", [])]

    @cached_property
    def aliases(self) -> dict[str, tuple[str, ...]]:
        """What each import's name stands for: `{"l": ("data", "lictor")}`."""
        found = {}
        for entry in self.tree.get("imports", []):
            path = tuple(str(term["value"]) for term in entry["path"]["value"])
            found[entry.get("alias") or path[-1]] = path
        return found

    def locate(self, node: Node) -> Location:
        """Where a node stands."""
        location = node.get("location", {})
        return Location(self.file.path, location.get("row", 1), location.get("col", 1))

    def finding(self, node: Node, message: str) -> RuleFinding:
        """A finding at a node, with its source line."""
        location = self.locate(node)
        return RuleFinding(location, printable(message), self.file.line(location.row))


@dataclass(frozen=True)
class Rule:
    """One rule of a module: a head, bodies, and `else` branches.

    Attributes:
        module: the file that it stands in.
        node: its syntax tree.
    """

    module: Module
    node: Node = field(repr=False)

    @property
    def head(self) -> Node:
        """The head: `ref`, and `args`, `key`, `value` where it has them."""
        head: Node = self.node["head"]
        return head

    @cached_property
    def path(self) -> tuple[str | None, ...]:
        """The full path below `data`: constants, and None for a part that varies."""
        first, *rest = self.head["ref"]
        parts = [t["value"] if t["type"] == "string" else None for t in rest]
        return (*self.module.package, first["value"], *parts)

    @property
    def name(self) -> str:
        """The rule's first name within its package."""
        return str(self.head["ref"][0]["value"])

    @property
    def is_function(self) -> bool:
        """Whether it takes arguments."""
        return "args" in self.head

    @property
    def is_partial_set(self) -> bool:
        """Whether it adds to a set: `name contains …`."""
        return "key" in self.head and "value" not in self.head and len(self.head["ref"]) == 1

    @property
    def is_test(self) -> bool:
        """Whether `opa test` runs it."""
        return self.name.startswith(("test_", "todo_test_"))

    @cached_property
    def branches(self) -> list[Node]:
        """The rule and its `else` branches, each a node with `head` and `body`."""
        found = [self.node]
        while "else" in found[-1]:
            found.append(found[-1]["else"])
        return found


def parse(opa: OPA, files: Sequence[SourceFile]) -> list[Module]:
    """Parse files, each by OPA, under plain names.

    Raises:
        PolicyRefusedError: some are not Rego; the message has each error as `file:row:col: what`.
    """
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(os.cpu_count()) as pool:
        parsed = list(pool.map(lambda item: _parse(opa, Path(folder), *item), enumerate(files)))
    refuse([finding for one in parsed if isinstance(one, list) for finding in one])
    return [one for one in parsed if isinstance(one, Module)]


def _parse(opa: OPA, folder: Path, number: int, file: SourceFile) -> Module | list[RuleFinding]:
    path = folder / f"{number}.rego"
    path.write_bytes(file.content)
    try:
        said = opa.run("parse", "--format", "json", "--json-include", "locations", str(path))
    except OPAFailedError as error:
        return findings_of(error, {str(path): file})
    tree = json.loads(said)
    if "package" not in tree:
        return [RuleFinding(Location(file.path, 1, 1), "the file is empty; it needs a package")]
    return Module(file, tree)


def refuse(findings: Sequence[RuleFinding]) -> None:
    """Refuse a site's rules for all that was found; do nothing where that is nothing.

    Raises:
        PolicyRefusedError: there is a finding.
    """
    if not findings:
        return
    lines = [str(finding) for finding in sorted(set(findings))]
    more = len(lines) - MAX_FINDINGS
    if more > 0:
        lines = [*lines[:MAX_FINDINGS], f"and {more} more"]
    raise PolicyRefusedError("\n".join(lines))


def findings_of(error: OPAFailedError, files: Mapping[str, SourceFile]) -> list[RuleFinding]:
    """OPA's errors, which it prints as JSON or as lines, by the author's own files.

    Args:
        error: what OPA printed.
        files: the files by the names that OPA was given.
    """
    found = []
    for one in _errors(str(error)):
        location = one.get("location") or {}
        file = files.get(str(location.get("file", "")))
        row, col = max(1, location.get("row", 1)), max(1, location.get("col", 1))
        message = printable(str(one.get("message", "")))
        if file is None:
            found.append(RuleFinding(Location("opa", 1, 1), message))
            continue
        details = one.get("details")
        line = details.get("line", "") if isinstance(details, dict) else ""
        line = file.line(row) or printable(str(line))
        found.append(RuleFinding(Location(file.path, row, col), message, line))
    return found


def _errors(said: str) -> list[Node]:
    try:
        errors: list[Node] = json.loads(said)["errors"]
    except (ValueError, KeyError, TypeError):
        return [_error_of(line) for line in said.splitlines() if line.strip()]
    return errors


def _error_of(line: str) -> Node:
    """An error that OPA printed as text: `1 error occurred: FILE:ROW: CODE: MESSAGE`."""
    match = re.match(r"(?:\d+ errors? occurred: )?(.*?):(\d+): (?:rego_\w+: )?(.*)", line)
    if not match:
        return {"message": line}
    return {"message": match[3], "location": {"file": match[1], "row": int(match[2]), "col": 1}}


def nodes(node: Any) -> Iterator[Node]:
    """Every node of a tree, its own first; the head of a reference comes with the reference."""
    if isinstance(node, dict):
        yield node
        children: Any = [child for key, child in node.items() if key != "location"]
        if node.get("type") == "ref" and node["value"][0]["type"] == "var":
            children = node["value"][1:]
        for child in children:
            yield from nodes(child)
    elif isinstance(node, list):
        for child in node:
            yield from nodes(child)


def reference(module: Module, node: Node) -> tuple[Any, ...]:
    """A reference or variable as its full path: constants, None for parts that vary.

    An import's name is replaced by what it stands for; a local name of the file's own package is
    left as it is.
    """
    if node["type"] == "var":
        return module.aliases.get(node["value"], (node["value"],))
    head, *rest = node["value"]
    first = (
        module.aliases.get(head["value"], (head["value"],)) if head["type"] == "var" else (None,)
    )
    return (*first, *(term["value"] if term["type"] == "string" else None for term in rest))
