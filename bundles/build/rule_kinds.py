"""What the values in a site's rules are: an action, its name, a tag, a library.

Kinds are inferred from where a value comes from, such as `some action in data.lictor.actions`, and
passed on through variables and the arguments of functions. What is not known to be of a kind is of
none, and no name in it is looked at.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from bundles.build.source_text import Node, SourceText, call_name

_ROUNDS = 3
"""How far a kind is passed on: from rule to function to function."""


class TermKind(Enum):
    """The kind of a value; the name of a kind of names is for people."""

    NAME = "tool"
    METHOD = "method"
    TAG = "tag"
    LIBRARY = "library"
    LIBRARY_TAG = "library tag"
    ACTION = "action"
    LIBRARY_RECORD = "record"
    ACTIONS = "actions"
    NAMES = "names"
    TAGS = "tags"
    LIBRARIES = "libraries"
    LIBRARY_TAGS = "library tags"


ELEMENTS = {
    TermKind.ACTIONS: TermKind.ACTION, TermKind.NAMES: TermKind.NAME, TermKind.TAGS: TermKind.TAG,
    TermKind.LIBRARIES: TermKind.LIBRARY, TermKind.LIBRARY_TAGS: TermKind.LIBRARY_TAG,
}  # fmt: skip
_COLLECTIONS = {element: whole for whole, element in ELEMENTS.items()}
_FIELDS = {
    (TermKind.ACTION, "name"): TermKind.NAME,
    (TermKind.ACTION, "method"): TermKind.METHOD,
    (TermKind.ACTION, "tags"): TermKind.TAGS,
    (TermKind.LIBRARY_RECORD, "tags"): TermKind.LIBRARY_TAGS,
}
_ROOTS = {
    ("input", "action"): TermKind.ACTION,
    ("input", "actions"): TermKind.ACTIONS,
    ("data", "lictor", "actions"): TermKind.ACTIONS,
    ("data", "lictor", "granted_libraries"): TermKind.LIBRARIES,
}
LIBRARY = ("data", "lictor", "library")
_SETS = {"and", "or", "minus"}


@dataclass
class Scope:
    """What is known in one rule.

    Attributes:
        aliases: the paths that the file's imports stand for.
        variables: the kinds of variables.
    """

    aliases: Mapping[str, Sequence[str]]
    variables: dict[str, TermKind] = field(default_factory=dict)

    def kind(self, term: Node) -> TermKind | None:
        """The kind of a term's value."""
        match term["type"]:
            case "var" | "ref":
                return self._kind_of_path(term)
            case "call" if self.path(term["value"][0]) == LIBRARY:
                return TermKind.LIBRARY_RECORD
            case "call" if call_name(term["value"]) in _SETS:
                kinds = [self.kind(one) for one in term["value"][1:]]
                return next((kind for kind in kinds if kind in ELEMENTS), None)
            case "setcomprehension" | "arraycomprehension":
                element = self.kind(term["value"]["term"])
                return _COLLECTIONS.get(element) if element else None
        return None

    def path(self, term: Node) -> tuple[Any, ...]:
        """The path of a reference, with imports written out; None for what is not constant."""
        parts = term["value"] if term["type"] == "ref" else [term]
        head, *rest = parts
        first = (
            self.aliases.get(head["value"], [head["value"]]) if head["type"] == "var" else [None]
        )
        return (*first, *(one["value"] if one["type"] == "string" else None for one in rest))

    def _kind_of_path(self, term: Node) -> TermKind | None:
        path = self.path(term)
        head = term["value"][0] if term["type"] == "ref" else term
        kind = self.variables.get(path[0]) if path[0] else None
        rest = path[1:]
        if head["type"] == "call":
            kind = self.kind(head)
        for root, rooted in _ROOTS.items():
            if path[: len(root)] == root:
                kind, rest = rooted, path[len(root) :]
        for part in rest:
            if kind is None:
                return None
            kind = ELEMENTS[kind] if kind in ELEMENTS else _FIELDS.get((kind, part))
        return kind


def scopes(sources: Sequence[SourceText]) -> list[tuple[SourceText, Node, Scope]]:
    """Each rule with what is known of its variables; each `else` is a rule of its own."""
    rules = [
        (source, rule, Scope(_aliases(source.tree)))
        for source in sources
        for whole in source.tree.get("rules", [])
        for rule in _branches(whole)
    ]
    functions: dict[str, list[tuple[Node, Scope]]] = {}
    for _, rule, scope in rules:
        if "args" in rule["head"]:
            functions.setdefault(rule_name(rule), []).append((rule, scope))
    for _ in range(_ROUNDS):
        for _, rule, scope in rules:
            for node in nodes(rule):
                _bind(node, scope)
                _pass_on(node, scope, functions)
    return rules


def rule_name(rule: Node) -> str:
    """The first part of a rule's name."""
    return str(rule["head"]["ref"][0]["value"])


def nodes(tree: Any) -> Iterator[Node]:
    """Every node of a tree."""
    if isinstance(tree, dict):
        yield tree
        for key, child in tree.items():
            if key not in {"location", "annotations", "else"}:
                yield from nodes(child)
    elif isinstance(tree, list):
        for child in tree:
            yield from nodes(child)


def applied(node: Node) -> Sequence[Node]:
    """The function and the arguments that an expression or a call applies; nothing for others."""
    terms = node.get("terms", node.get("value") if node.get("type") == "call" else None)
    return terms if isinstance(terms, list) else []


def _branches(rule: Node) -> Iterator[Node]:
    yield rule
    if "else" in rule:
        yield from _branches(rule["else"])


def _aliases(tree: Node) -> dict[str, list[str]]:
    found = {}
    for entry in tree.get("imports", []):
        path = [term["value"] for term in entry["path"]["value"]]
        found[entry.get("alias") or path[-1]] = path
    return found


def _bind(node: Node, scope: Scope) -> None:
    terms = applied(node)
    match call_name(terms):
        case "internal.member_2" | "internal.member_3":
            *_, element, whole = terms
            kind = scope.kind(whole)
            _bind_variable(scope, element, ELEMENTS.get(kind) if kind else None)
        case "assign" | "eq":
            _bind_variable(scope, terms[1], scope.kind(terms[2]))
    if "domain" in node:
        kind = scope.kind(node["domain"])
        _bind_variable(scope, node["value"], ELEMENTS.get(kind) if kind else None)


def _bind_variable(scope: Scope, term: Node, kind: TermKind | None) -> None:
    if kind and term["type"] == "var":
        scope.variables.setdefault(term["value"], kind)


def _pass_on(
    node: Node, scope: Scope, functions: Mapping[str, Sequence[tuple[Node, Scope]]]
) -> None:
    terms = applied(node)
    if not terms:
        return
    name = call_name(terms).rpartition(".")[2]
    for rule, inner in functions.get(name, ()):
        for parameter, argument in zip(rule["head"]["args"], terms[1:], strict=False):
            _bind_variable(inner, parameter, scope.kind(argument))
