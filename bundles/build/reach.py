"""Which rules rest on which: the way from `deny` and `hidden` to every rule that has an effect."""

from collections import defaultdict
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


class RuleGraph:
    """The rules of a site, and which of them each rests on."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        self.rules = rules
        self._by_start: dict[Any, list[Rule]] = defaultdict(list)
        self._needs: dict[int, list[Rule]] = {}
        for rule in rules:
            self._by_start[rule.path[:2]].append(rule)

    def reached_from(self, roots: Iterable[Rule]) -> list[Rule]:
        """The rules that some rules rest on, themselves among them."""
        found, waiting = {}, list(roots)
        while waiting:
            rule = waiting.pop()
            if id(rule.node) not in found:
                found[id(rule.node)] = rule
                waiting += self._needed_by(rule)
        return list(found.values())

    def _needed_by(self, rule: Rule) -> list[Rule]:
        key = id(rule.node)
        if key not in self._needs:
            self._needs[key] = [
                one
                for path in _references_of(rule)
                for one in self._near(path)
                if overlap(one.path, path)
            ]
        return self._needs[key]

    def _near(self, path: tuple[Any, ...]) -> Sequence[Rule]:
        """Return the rules that a path may mean, before a closer check."""
        is_constant = len(path) > 1 and None not in path[:2]
        return self._by_start.get(path[:2], ()) if is_constant else self.rules


def _references_of(rule: Rule) -> set[tuple[Any, ...]]:
    """The paths below `data` that a rule names; a variable may have the name of a rule."""
    own_names = {id(branch["head"]["ref"][0]) for branch in rule.branches}
    found = set()
    for node in syntax.nodes(rule.node):
        if node.get("type") not in {"ref", "var"} or id(node) in own_names:
            continue
        path = syntax.reference(rule.module, node)
        if path[0] == "data" and path[1:]:
            found.add(path[1:])
        elif isinstance(path[0], str) and path[0] not in {"input", "data"}:
            found.add((*rule.module.package, *path))
    return found
