"""The names that a site's rules hold constant: of tools, tags, methods and libraries."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from bundles.build.rule_kinds import (
    ELEMENTS,
    LIBRARY,
    Scope,
    TermKind,
    applied,
    nodes,
    rule_name,
    scopes,
)  # fmt: skip
from bundles.build.source_text import Node, SourceText, call_name

_COMPARED = {"equal", "neq", "eq", "and", "minus", "or"}
_TEXT_TESTS = {"startswith": "prefix", "endswith": "suffix", "contains": "part"}
NAMED = (TermKind.NAME, TermKind.METHOD, TermKind.TAG, TermKind.LIBRARY, TermKind.LIBRARY_TAG)
"""The kinds of names."""
_MEMBERS = {"name": TermKind.NAME, "method": TermKind.METHOD, "tags": TermKind.TAG}


@dataclass(frozen=True, slots=True)
class RuleName:
    """A name in a rule.

    Attributes:
        file: where it is.
        row: its line, from 1.
        kind: what it names.
        text: the name, or a pattern of names.
        test: how names are compared with it: `equal`, `prefix`, `suffix`, `part`, `glob`, `regex`.
    """

    file: str
    row: int
    kind: TermKind
    text: str
    test: str = "equal"


def names_in_rules(sources: Sequence[SourceText]) -> list[RuleName]:
    """Find every constant that a rule compares with a name, each once, in the order of the text."""
    rules = scopes(sources)
    constants: dict[str, list[Node]] = {}
    for _, rule, _scope in rules:
        head = rule["head"]
        if "args" not in head and len(head["ref"]) == 1:
            term = head.get("key") if "key" in head else head.get("value")
            constants.setdefault(rule_name(rule), []).append(term)
    found: dict[RuleName, None] = {}
    for source, rule, scope in rules:
        for kind, term, test in _of_rule(rule, scope):
            for text in _texts(term, scope, constants):
                row = _row(text) or _row(term) or rule["location"]["row"]
                found[RuleName(source.path, row, kind, text["value"], test)] = None
    return sorted(found, key=lambda name: (name.file, name.row, name.kind.value, name.text))


_Found = tuple[TermKind, Node, str]


def _of_rule(rule: Node, scope: Scope) -> Iterator[_Found]:
    yield from _of_head(rule)
    for node in nodes(rule):
        terms = applied(node)
        name = call_name(terms)
        if name in _COMPARED:
            yield from _compared(scope, terms[1], terms[2])
            yield from _compared(scope, terms[2], terms[1])
        elif name == "internal.member_2":
            yield from _member(scope, terms[1], terms[2])
        elif name in _TEXT_TESTS:
            yield from _tested(scope, terms[1], terms[2], _TEXT_TESTS[name])
        elif name == "glob.match":
            yield from _tested(scope, terms[3], terms[1], "glob")
        elif name == "regex.match":
            yield from _tested(scope, terms[2], terms[1], "regex")
        elif terms and scope.path(terms[0]) == LIBRARY:
            yield TermKind.LIBRARY, terms[1], "equal"
        if node.get("type") == "ref" and len(node["value"]) > 1:
            yield from _looked_up(scope, node["value"])


def _of_head(rule: Node) -> Iterator[_Found]:
    key = rule["head"].get("key")
    if key is None:
        return
    if rule_name(rule) == "hidden":
        yield TermKind.LIBRARY, key, "equal"
    elif rule_name(rule) == "deny" and key["type"] == "object":
        for member, value in key["value"]:
            if member["value"] == "action":
                yield from _of_action(value)


def _of_action(value: Node) -> Iterator[_Found]:
    if value["type"] != "object":
        yield TermKind.NAME, value, "equal"
        return
    for member, part in value["value"]:
        if member["value"] in _MEMBERS:
            yield _MEMBERS[member["value"]], part, "equal"


def _compared(scope: Scope, known: Node, other: Node) -> Iterator[_Found]:
    kind = scope.kind(known)
    kind = ELEMENTS.get(kind, kind) if kind else None
    if kind in NAMED:
        yield kind, other, "equal"


def _member(scope: Scope, element: Node, whole: Node) -> Iterator[_Found]:
    kind = scope.kind(whole)
    if kind and ELEMENTS.get(kind) in NAMED:
        yield ELEMENTS[kind], element, "equal"
    one = scope.kind(element)
    if one in NAMED:
        yield one, whole, "equal"


def _tested(scope: Scope, known: Node, pattern: Node, test: str) -> Iterator[_Found]:
    kind = scope.kind(known)
    if kind in NAMED:
        yield kind, pattern, test


def _looked_up(scope: Scope, reference: Sequence[Node]) -> Iterator[_Found]:
    """`names[action.name]`, where `names` is a rule with constants."""
    head, index, *_ = reference
    kind = scope.kind(index) if index["type"] in {"ref", "var"} else None
    if head["type"] == "var" and kind in NAMED:
        yield kind, head, "equal"


def _texts(
    term: Node, scope: Scope, constants: Mapping[str, Sequence[Node]], depth: int = 2
) -> Iterator[Node]:
    """The constant texts that a term stands for, through rules that hold constants."""
    match term["type"]:
        case "string":
            yield term
        case "array" | "set":
            for one in term["value"]:
                yield from _texts(one, scope, constants, 0)
        case "object":
            for key, _ in term["value"]:
                yield from _texts(key, scope, constants, 0)
        case "var" | "ref" if depth:
            path = scope.path(term)
            if len(path) == 1 or path[:2] == ("data", "site"):
                for held in constants.get(str(path[-1]), ()):
                    yield from _texts(held, scope, constants, depth - 1)


def _row(term: Node) -> int | None:
    location = term.get("location")
    return location["row"] if location else None
