"""What a site's rules do, for people: each deny and hidden rule, where it is, what it reads."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bundles.build import builtins, syntax
from bundles.build.reach import is_decision, reached_from
from bundles.build.syntax import Module, Rule
from bundles.build.visible import infer
from bundles.opa_binary import OPA


@dataclass(frozen=True, slots=True)
class RuleReport:
    """One rule that is in force.

    Attributes:
        location: `file:row` of its head.
        effect: `deny` or `hidden`.
        code: the code that a refusal carries, where it is written out; else None.
        reads: what it rests on beside actions and the principal: `clock`, `arguments`, `libraries`.
        tests: the site's tests that are about it.
    """

    location: str
    effect: str
    code: str | None
    reads: tuple[str, ...]
    tests: tuple[str, ...]


def describe(
    opa: OPA, modules: Sequence[Module], tests: Sequence[Module], schemas: Path
) -> list[RuleReport]:
    """Describe the rules of a site that are in force, in the order of its files."""
    rules = [rule for module in modules for rule in module.rules]
    test_rules = [rule for module in [*modules, *tests] for rule in module.rules]
    return [
        RuleReport(
            location=f"{rule.module.file.path}:{rule.module.locate(rule.head).row}",
            effect=rule.name,
            code=(code := _code(rule)),
            reads=_reads(opa, reached_from(rules, [rule]), schemas),
            tests=tuple(_tests_of(rule, code, test_rules)),
        )
        for rule in rules
        if is_decision(rule)
    ]


def _code(rule: Rule) -> str | None:
    key = rule.head["key"]
    for name, value in key["value"] if key["type"] == "object" else ():
        if name.get("value") == "code" and value["type"] == "string":
            return str(value["value"])
    return None


def _reads(opa: OPA, rules: Sequence[Rule], schemas: Path) -> tuple[str, ...]:
    inference = infer(opa, rules, schemas)
    for rule in rules:
        inference.check(rule)
    found = {"arguments"} if inference.reads_arguments else set()
    for rule in rules:
        for node in syntax.nodes(rule.node):
            if node.get("type") == "string" and "arguments" in node["value"]:
                found.add("arguments")
            if node.get("type") == "ref":
                path = syntax.reference(rule.module, node)
                if path[:3] == ("data", "lictor", "library"):
                    found.add("libraries")
                if ".".join(map(str, path)) in builtins.CLOCK:
                    found.add("clock")
    return tuple(sorted(found))


def _tests_of(rule: Rule, code: str | None, rules: Sequence[Rule]) -> list[str]:
    """The tests that read the rule's set, and name its code where they name any."""
    found = []
    for test in rules:
        if not test.is_test:
            continue
        reached = reached_from(rules, [test])
        if not any(is_decision(one) and one.name == rule.name for one in reached):
            continue
        texts = {
            node["value"]
            for one in reached
            if one.module.file.is_test
            for node in syntax.nodes(one.node)
            if node.get("type") == "string"
        }
        if code is None or code in texts or not texts & _codes(rules):
            found.append(test.name)
    return sorted(found)


def _codes(rules: Sequence[Rule]) -> set[str]:
    return {
        code
        for rule in rules
        if is_decision(rule) and rule.name == "deny"
        for code in [_code(rule)]
        if code
    }
