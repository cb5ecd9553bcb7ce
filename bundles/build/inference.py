"""Types of a site's rules and functions, from the types of what they may see.

A function is typed anew for each kind of arguments that it is called with, so that a member that an
action does not have is found inside a helper too. Rego has no recursion, so this ends.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from bundles.build import types as t
from bundles.build.syntax import Module, Node, Rule, RuleFinding
from bundles.build.terms import RuleBody
from bundles.build.types import ANY, Type

Path = tuple[Any, ...]
"""A path below `data`: constants, and None for a part that varies."""


class Inference:
    """Types rules, and keeps what it finds wrong with them.

    Attributes:
        findings: comparisons that never hold, members that do not exist.
        reads_arguments: whether an action is looked at other than by a constant, known member.
        input_type: what `input` is.
        lictor: what site rules may read of `data.lictor`.
        builtins: OPA's builtins by name, as its capabilities declare them.
    """

    def __init__(
        self,
        rules: Sequence[Rule],
        *,
        input_type: Type,
        lictor: Type,
        builtins: Mapping[str, Mapping[str, Any]],
    ) -> None:
        self.findings: set[RuleFinding] = set()
        self.reads_arguments = False
        self.input_type = input_type
        self.lictor = lictor
        self.builtins = builtins
        self._values: list[Rule] = []
        self._functions: dict[Path, list[Rule]] = {}
        self._paths: set[Path] = set()
        self._memo: dict[Any, Type] = {}
        self._silent = 0
        for rule in rules:
            if rule.is_function:
                self._functions.setdefault(rule.path, []).append(rule)
            else:
                self._values.append(rule)
                self._paths.add(rule.path)

    def check(self, rule: Rule) -> list[tuple[Node, Type]]:
        """Go through a rule, and return what each branch's head gives, with its node."""
        return list(self._branches(rule, [ANY for _ in rule.head.get("args", [])]))

    def rule_type(self, path: Path) -> Type | None:
        """What `data.<path>` is; None where no rule defines it, or a part of it."""
        key = ("rule", path)
        if key not in self._memo:
            self._memo[key] = ANY  # should OPA ever allow recursion, this still ends
            found = [self._along(rule, path) for rule in self._values if overlap(rule.path, path)]
            self._memo[key] = t.union(found) if found else frozenset()
        return self._memo[key] or None

    def is_rule(self, path: Path) -> bool:
        """Whether a rule has exactly this path."""
        return path in self._paths

    def functions(self, path: Path) -> list[Rule]:
        """The rules that define a function."""
        return self._functions.get(path, [])

    def call(self, rules: Sequence[Rule], arguments: Sequence[Type]) -> Type:
        """What a function returns for arguments of these types; its body is checked for them."""
        key = ("call", rules[0].path, tuple(arguments), self._silent > 0)
        if key not in self._memo:
            self._memo[key] = ANY
            self._memo[key] = t.union(
                one for rule in rules for _, one in self._branches(rule, arguments)
            )
        return self._memo[key]

    @contextmanager
    def silence(self) -> Iterator[None]:
        """Find nothing within this context: the terms are typed once more later."""
        self._silent += 1
        try:
            yield
        finally:
            self._silent -= 1

    def add(self, module: Module, node: Node, message: str) -> None:
        """Keep a finding, unless this pass does not count."""
        if not self._silent:
            self.findings.add(module.finding(node, message))

    def _branches(self, rule: Rule, arguments: Sequence[Type]) -> Iterator[tuple[Node, Type]]:
        for branch in rule.branches:
            head = branch["head"]
            body = RuleBody(self, rule.module)
            for pattern, given in zip(head.get("args", []), arguments, strict=False):
                body.bind(pattern, given, binder=0)
            body.run(branch["body"])
            for part in head["ref"][1:]:
                body.use_as_key(part)
            node = head.get("value") or head.get("key")
            yield node or head, body.type(node) if node else t.BOOLEAN

    def _along(self, rule: Rule, path: Path) -> Type:
        """A rule's value as seen from a path that is shorter or longer than the rule's own."""
        if len(path) < len(rule.path):  # an object with the rule somewhere below it
            return frozenset({t.Object((), self._value(rule))})
        found: Type = self._value(rule)
        for part in path[len(rule.path) :]:
            found = t.member(found, ANY if part is None else t.constant(part)) or frozenset()
        return found

    def _value(self, rule: Rule) -> Type:
        key = ("value", id(rule.node))
        if key not in self._memo:
            self._memo[key] = ANY
            with self.silence():
                value = t.union(one for _, one in self._branches(rule, []))
            as_set = "key" in rule.head and "value" not in rule.head
            self._memo[key] = frozenset({t.Items("set", value)}) if as_set else value
        return self._memo[key]


def overlap(rule: Path, path: Path) -> bool:
    """Whether two paths can be the same, or one be below the other."""
    return all(a is None or b is None or a == b for a, b in zip(rule, path, strict=False))
