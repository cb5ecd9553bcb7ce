"""Which rules rest on which: the way from `deny` and `hidden` to every rule that has an effect."""

from collections.abc import Iterable, Sequence
from typing import Any

from bundles.build import syntax
from bundles.build.inference import overlap
from bundles.build.syntax import Rule

DECISIONS = ("deny", "hidden")
"""The sets of package `site` that the decision reads; nothing else of a site has an effect."""


def is_decision(rule: Rule) -> bool:
    """Whether a rule adds to one of the sets that the decision reads."""
    return rule.module.package == ("site",) and rule.name in DECISIONS


def reached_from(rules: Sequence[Rule], roots: Iterable[Rule]) -> list[Rule]:
    """The rules that some rules rest on, themselves among them."""
    found, waiting = {}, list(roots)
    while waiting:
        rule = waiting.pop()
        if id(rule.node) not in found:
            found[id(rule.node)] = rule
            paths = _references_of(rule)
            waiting += [one for one in rules if any(overlap(one.path, path) for path in paths)]
    return list(found.values())


def _references_of(rule: Rule) -> set[tuple[Any, ...]]:
    """The paths below `data` that a rule names; a variable may look like a rule of its package."""
    found = set()
    for node in syntax.nodes(rule.node):
        if node.get("type") not in {"ref", "var"}:
            continue
        path = syntax.reference(rule.module, node)
        if path[0] == "data" and path[1:]:
            found.add(path[1:])
        elif isinstance(path[0], str) and path[0] not in {"input", "data"}:
            found.add((*rule.module.package, *path))
    return found
