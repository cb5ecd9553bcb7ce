"""Which actions a rule that reads arguments can concern, as far as its text says so.

The decision leaves the arguments of all other actions out, and the plugin does not hold their tools
to their schemas. So this errs on one side: a rule that does not name its actions in a way that is
understood here concerns every action.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bundles.build import syntax
from bundles.build import types as t
from bundles.build.syntax import Node, Rule
from bundles.build.types import Type

_ACTIONS = ("data", "lictor", "actions")


@dataclass(frozen=True, slots=True)
class Concern:
    """The actions that one rule can deny.

    Attributes:
        names: the names that they have; None for any.
        methods: the methods that they have; None for any.
        tags: tags that each of them has.
    """

    names: tuple[str, ...] | None = None
    methods: tuple[str, ...] | None = None
    tags: tuple[str, ...] = ()

    @property
    def is_limited(self) -> bool:
        """Whether there is an action that the rule cannot concern."""
        return self != Concern()


def concern_of(rule: Rule, element: Type) -> Concern:
    """Return what a rule of `deny` can concern.

    Args:
        rule: the rule.
        element: the type of what it adds to the set.
    """
    key = rule.head.get("key") or {}
    members = _members(key)
    # An element that is not of the right form denies everything.
    if not all(_is_text(element, name) for name in ("code", "message")) or "action" not in members:
        return Concern()
    action = members["action"]
    if action["type"] == "string":
        return Concern(names=(action["value"],))
    if action["type"] == "object":
        return _of_part(_members(action))
    return _of_conditions(rule, action)


def _of_part(part: dict[str, Node]) -> Concern:
    tags = part.get("tags")
    return Concern(
        names=_texts(part.get("name")),
        methods=_texts(part.get("method")),
        tags=tuple(_texts_within(tags)) if tags else (),
    )


def _of_conditions(rule: Rule, action: Node) -> Concern:
    """Read the conditions on the variable whose name, or all of which, is denied."""
    variable = action
    if action["type"] == "ref":
        variable, *path = action["value"]
        if [one.get("value") for one in path] != ["name"]:
            return Concern()
    if variable["type"] != "var" or variable["value"] in rule.module.aliases:
        return Concern()
    names: set[str] | None = None
    methods: set[str] | None = None
    tags: set[str] = set()
    for member, values in _conditions(rule, variable["value"]):
        match member:
            case "name":
                names = values if names is None else names & values
            case "method":
                methods = values if methods is None else methods & values
            case _:
                tags |= values
    if not _ranges_over_actions(rule, variable["value"]):
        methods, tags = None, set()  # the tags of something else, which bears an action's name
    return Concern(
        names=None if names is None else tuple(sorted(names)),
        methods=None if methods is None else tuple(sorted(methods)),
        tags=tuple(sorted(tags)),
    )


def _conditions(rule: Rule, variable: str) -> Iterator[tuple[str, set[str]]]:
    """Yield what the body's own expressions say of a variable's name, method and tags."""
    (branch,) = rule.branches
    for expression in branch["body"]:
        terms = expression["terms"]
        if expression.get("negated") or expression.get("with") or not isinstance(terms, list):
            continue
        operator = ".".join(str(one["value"]) for one in terms[0]["value"])
        arguments = terms[1:]
        if operator in {"equal", "eq"}:
            for one, other in (arguments, arguments[::-1]):
                member, text = _member(one, variable), _texts(other)
                if member in {"name", "method"} and text:
                    yield member, set(text)
        if operator == "internal.member_2":
            wanted, collection = arguments
            if (member := _member(wanted, variable)) in {"name", "method"}:
                values = list(_texts_within(collection))
                if values and len(values) == len(collection["value"]):
                    yield member, set(values)
            elif _member(collection, variable) == "tags" and (text := _texts(wanted)):
                yield "tags", set(text)


def _ranges_over_actions(rule: Rule, variable: str) -> bool:
    for expression in rule.branches[0]["body"]:
        terms = expression["terms"]
        for symbol in terms.get("symbols", ()) if isinstance(terms, dict) else ():
            if symbol["type"] == "call":
                *patterns, collection = symbol["value"][1:]
                is_declared = patterns[-1].get("value") == variable
                is_reference = collection["type"] in {"ref", "var"}
                if is_declared and is_reference:
                    return syntax.reference(rule.module, collection) == _ACTIONS
    return False


def _member(term: Node, variable: str) -> str | None:
    """Return the member of a variable that a term is."""
    if term["type"] != "ref":
        return None
    head, *path = term["value"]
    if head["type"] != "var" or head["value"] != variable or len(path) != 1:
        return None
    return str(path[0]["value"]) if path[0]["type"] == "string" else None


def _members(term: Node) -> dict[str, Node]:
    if term.get("type") != "object":
        return {}
    return {key["value"]: value for key, value in term["value"] if key["type"] == "string"}


def _texts(term: Node | None) -> tuple[str, ...] | None:
    return (term["value"],) if term is not None and term["type"] == "string" else None


def _texts_within(term: Node) -> Iterator[str]:
    if term["type"] in {"array", "set"}:
        items: Sequence[Node] = term["value"]
        for one in items:
            yield from _texts(one) or ()


def _is_text(element: Type, name: str) -> bool:
    found = [one.member(name) if isinstance(one, t.Object) else None for one in element]
    return bool(found) and all(
        given and all(one.kind == "string" for one in given) for given in found
    )
