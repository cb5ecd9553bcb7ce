"""A site's rules as a whole: that each has an effect, and what they read.

What is written and read by nothing, or never applies, is refused with its file and line: a rule
that silently is not in force is worse than none.
"""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bundles.build import builtins, syntax
from bundles.build.elements import faults_of_denial, faults_of_hidden
from bundles.build.reach import DECISIONS, RuleGraph, is_decision
from bundles.build.syntax import Module, Node, Rule, RuleFinding
from bundles.build.visible import READABLE, infer, members_of_an_action
from bundles.opa.binary import OPA


@dataclass(frozen=True, slots=True)
class Reads:
    """What a site's rules may read, as found in their syntax trees; in doubt True.

    Attributes:
        clock: the time, or anything else that differs from one evaluation to the next.
        arguments: the arguments of a call.
        libraries: libraries' own records, beyond those that the decision rests on.
    """

    clock: bool = False
    arguments: bool = False
    libraries: bool = False


def unused_functions(modules: Sequence[Module]) -> list[str]:
    """Functions that nothing in force calls, each as `file:row:col: name`."""
    rules = [rule for module in modules for rule in module.rules]
    reached = RuleGraph(rules).reached_from(filter(is_decision, rules))
    used = {id(rule.node) for rule in reached}
    return [
        f"{rule.module.locate(rule.head)}: {rule.name}"
        for rule in rules
        if rule.is_function and id(rule.node) not in used
    ]


def inspect(opa: OPA, modules: Sequence[Module], schemas: Path) -> tuple[list[RuleFinding], Reads]:
    """Inspect a site's rules.

    Args:
        opa: declares the builtins.
        modules: the parsed files, without tests.
        schemas: the folder of the product's schemas.
    """
    inspection = _Inspection(opa, modules, schemas)
    inspection.check()
    return sorted(inspection.findings), inspection.reads


def misplaced_rules(tests: Sequence[Module]) -> list[RuleFinding]:
    """Rules in test files that were meant to be in force: tests are not signed."""
    return [
        module.finding(
            rule.head,
            f"{rule.name} stands in a file of tests, which is not signed; "
            "move it to a file whose name does not end in _test.rego",
        )
        for module in tests
        for rule in module.rules
        if is_decision(rule)
    ]


class _Inspection:
    def __init__(self, opa: OPA, modules: Sequence[Module], schemas: Path) -> None:
        self.findings: list[RuleFinding] = []
        self._modules = modules
        self._declared = builtins.read_declarations(opa)
        self._rules = [rule for module in modules for rule in module.rules]
        reached = RuleGraph(self._rules).reached_from(filter(is_decision, self._rules))
        self._reached = {id(rule.node) for rule in reached}
        self._called: set[str] = set()
        self._libraries = False
        self._inference = infer(opa, self._rules, schemas)

    @property
    def reads(self) -> Reads:
        # Anywhere in a text: `json.filter` and its like take paths.
        named = any(
            "arguments" in node["value"]
            for rule in self._rules
            for node in syntax.nodes(rule.node)
            if node.get("type") == "string"
        )
        return Reads(
            clock=bool(self._called & builtins.CLOCK),
            arguments=named or self._inference.reads_arguments,
            libraries=self._libraries,
        )

    def check(self) -> None:
        for module in self._modules:
            self._check_package(module)
            self._check_references(module)
            self._check_calls(module)
        for rule in self._rules:
            self._check_head(rule)
        if not self.findings:  # what follows would repeat them in other words
            for rule in self._rules:
                self._check_values(rule)
            self.findings += self._inference.findings

    def _check_package(self, module: Module) -> None:
        package, node = module.package, module.tree["package"]
        name = ".".join(package)
        if package[:1] != ("site",) or package[:2] == ("site", "manifest"):
            is_test = package[:1] and package[0].endswith("_test")
            hint = "; a file of tests is named …_test.rego" if is_test else ""
            self._add(
                module, node, f"package {name}; a site's rules are in package site or below{hint}"
            )
        elif package[1:2] and package[1] in DECISIONS:
            self._add(
                module, node,
                f"package {name} would stand where the set site.{package[1]} is; "
                f"write `{package[1]} contains …` in package site",
            )  # fmt: skip

    def _check_head(self, rule: Rule) -> None:
        if rule.module.package == ("site",):
            if rule.name in DECISIONS and not rule.is_partial_set:
                form = f"`{rule.name}` is a set, add to it with `{rule.name} contains …`"
                self._add(rule.module, rule.head, form)
                return
            if rule.name == "manifest":
                text = "`manifest` is written by `lictor policies build`"
                self._add(rule.module, rule.head, text)
                return
        if id(rule.node) in self._reached or rule.is_function or rule.is_test:
            return
        close = difflib.get_close_matches(rule.name, DECISIONS, n=1, cutoff=0.5)
        hint = f"did you mean {close[0]}?" if close else "use it, or delete it"
        if rule.name in DECISIONS:
            hint = "write it in package site"
        self._add(
            rule.module, rule.head,
            f"neither deny nor hidden of package site reads {rule.name}, "
            f"so it has no effect; {hint}",
        )  # fmt: skip

    def _check_references(self, module: Module) -> None:
        for node in syntax.nodes(module.tree.get("rules", [])):
            if node.get("type") not in {"ref", "var"}:
                continue
            path = syntax.reference(module, node)
            if path[0] != "data" or path[1:2] == ("site",):
                continue
            if path[1:2] != ("lictor",) or path[2:3] == () or path[2] not in READABLE:
                said = ".".join(part if isinstance(part, str) else "[…]" for part in path)
                readable = ", ".join(sorted(READABLE))
                self._add(
                    module, node, f"reads {said}; a site's rules read data.lictor.{{{readable}}}"
                )
            self._libraries = self._libraries or path[2:3] == ("library",)

    def _check_calls(self, module: Module) -> None:
        own = {rule.name for rule in self._rules if rule.module.package == module.package}
        for node in syntax.nodes(module.tree.get("rules", [])):
            if node.get("type") != "ref":
                continue
            name = ".".join(str(term["value"]) for term in node["value"])
            if name not in self._declared or ("." not in name and name in own):
                continue
            self._called.add(name)
            if name not in builtins.ALLOWED:
                self._add(module, node, builtins.explain_refusal(name))

    def _check_values(self, rule: Rule) -> None:
        if rule.is_test:
            return  # no decision evaluates it
        for node, given in self._inference.check(rule):
            if is_decision(rule):
                faults = (
                    faults_of_denial(given, members_of_an_action(self._inference))
                    if rule.name == "deny"
                    else faults_of_hidden(given)
                )
                for fault in faults:
                    self._add(rule.module, node, fault)

    def _add(self, module: Module, node: Node, message: str) -> None:
        self.findings.append(module.finding(node, message))
