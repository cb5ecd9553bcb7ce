"""What a site's rules do, for people: each deny and hidden rule, where it is, what it reads."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bundles.build import builtins, syntax
from bundles.build import types as t
from bundles.build.concerns import Concern, concern_of
from bundles.build.reach import RuleGraph, is_decision
from bundles.build.syntax import Module, Rule
from bundles.build.types import Type
from bundles.build.visible import infer
from bundles.opa.binary import OPA


@dataclass(frozen=True, slots=True)
class RuleReport:
    """One rule that is in force.

    Attributes:
        location: `file:row` of its head.
        effect: `deny` or `hidden`.
        code: the code that a refusal carries, where it is written out; else None.
        reads: what it rests on beside actions and the principal: `clock`, `arguments`, `libraries`.
        tests: the site's tests that are about it.
        concern: the actions that it can concern.
    """

    location: str
    effect: str
    code: str | None
    reads: tuple[str, ...]
    tests: tuple[str, ...]
    concern: Concern


def describe(
    opa: OPA, modules: Sequence[Module], tests: Sequence[Module], schemas: Path
) -> list[RuleReport]:
    """Describe the rules of a site that are in force, in the order of its files."""
    graph = RuleGraph([rule for module in modules for rule in module.rules])
    decisions = [rule for rule in graph.rules if is_decision(rule)]
    codes = {code for rule in decisions if (code := _code(rule))}
    subjects = _subjects([rule for module in [*modules, *tests] for rule in module.rules], codes)
    found = []
    for rule in decisions:
        code = _code(rule)
        reads, element = _reads(opa, rule, graph.reached_from([rule]), schemas)
        about = [
            name
            for name, effects, named in subjects
            if rule.name in effects and (code is None or not named or code in named)
        ]
        found.append(
            RuleReport(
                location=f"{rule.module.file.path}:{rule.module.locate(rule.head).row}",
                effect=rule.name,
                code=code,
                reads=reads,
                tests=tuple(about),
                concern=concern_of(rule, element) if rule.name == "deny" else Concern(),
            )
        )
    return found


def concerns_of_arguments(rules: Sequence[RuleReport]) -> list[Concern] | None:
    """Return the actions whose arguments some rule can be about; None if that may be any."""
    found = [rule.concern for rule in rules if "arguments" in rule.reads]
    return found if found and all(one.is_limited for one in found) else None


def _code(rule: Rule) -> str | None:
    key = rule.head["key"]
    for name, value in key["value"] if key["type"] == "object" else ():
        if name.get("value") == "code" and value["type"] == "string":
            return str(value["value"])
    return None


def _reads(
    opa: OPA, decision: Rule, rules: Sequence[Rule], schemas: Path
) -> tuple[tuple[str, ...], Type]:
    """Return what a rule reads, and the type of what it adds to its set."""
    inference = infer(opa, rules, schemas)
    element: Type = frozenset()
    for rule in rules:
        given = inference.check(rule)
        if rule is decision:
            element = t.union(one for _, one in given)
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
    return tuple(sorted(found)), element


def _subjects(rules: Sequence[Rule], codes: set[str]) -> list[tuple[str, set[str], set[str]]]:
    """Each test, the sets that it reads, and the codes that it names."""
    graph, found = RuleGraph(rules), []
    for test in sorted((rule for rule in rules if rule.is_test), key=lambda rule: rule.name):
        reached = graph.reached_from([test])
        effects = {one.name for one in reached if is_decision(one)}
        named = {
            node["value"]
            for one in reached
            if one.module.file.is_test
            for node in syntax.nodes(one.node)
            if node.get("type") == "string" and node["value"] in codes
        }
        found.append((test.name, effects, named))
    return found
