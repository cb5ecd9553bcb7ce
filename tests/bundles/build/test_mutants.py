"""Each operator of mutation: a source, and the mutants that it makes of it."""

import re

import pytest
from support.plain_opa import ROOT

from bundles.build.mutants import make_mutants
from bundles.build.source_text import SourceText

# operator, rule, what the changed rules must be.
CASES = [
    ("drop-expression", "p if { input.a; input.b }", ["p if { true; input.b }", "p if { input.a; true }"]),
    ("drop-expression", "p if input.a == 1", ["p if true"]),
    ("drop-expression", "p if { x := input.a; x }", ["p if { x := input.a; true }"]),
    ("drop-expression", "p := {x | some x in input.l; x.a}", ["p := {x | true; x.a}", "p := {x | some x in input.l; true}"]),
    ("drop-not", "p if not input.a", ["p if input.a"]),
    ("drop-not", "p if { input.b; not   f(1) }", ["p if { input.b; f(1) }"]),
    ("add-not", "p if f(input.a)", ["p if not f(input.a)"]),
    ("add-not", "p if input.a == 1", []),
    ("comparison", "p if input.a == 1", ["p if input.a != 1"]),
    ("comparison", "p if input.a != 1", ["p if input.a == 1"]),
    ("comparison", "p if input.a < 1", ["p if input.a >= 1"]),
    ("comparison", "p if input.a <= 1", ["p if input.a > 1"]),
    ("comparison", "p if input.a > 1", ["p if input.a <= 1"]),
    ("comparison", "p if input.a >= 1", ["p if input.a < 1"]),
    ("comparison", "p := [1 | input.a == 1]", ["p := [1 | input.a != 1]"]),
    ("boundary", "p if input.a < 1", ["p if input.a <= 1"]),
    ("boundary", "p if input.a <= 1", ["p if input.a < 1"]),
    ("boundary", "p if input.a > 1", ["p if input.a >= 1"]),
    ("boundary", "p if input.a >= 1", ["p if input.a > 1"]),
    ("every-some", "p if every x in input.l { x > 1 }", ["p if some x in input.l; x > 1"]),
    ("some-every", "p if { some x in input.l; x > 1 }", ["p if { every x in input.l { x > 1 } }"]),
    ("some-every", "p if some x in input.l", []),
    ("string", 'p if input.a == "x"', ['p if input.a == ""']),
    ("string", 'p if input.a == ""', ['p if input.a == "mutant"']),
    ("string", "p if input.a == `x\ny`", ['p if input.a == ""']),
    ("string", 'p if input["a"].b', []),
    ("number-up", "p if input.a == 7", ["p if input.a == 8"]),
    ("number-up", "p if input.a == -1", ["p if input.a == 0"]),
    ("number-down", "p if input.a == 1.5", ["p if input.a == 0.5"]),
    ("constant", "p if input.a == true", ["p if input.a == false"]),
    ("constant", "p if input.a == false", ["p if input.a == true"]),
    ("constant", "p if input.a == null", ["p if input.a == false"]),
    ("constant", "default p := false", ["default p := true"]),
    ("drop-element", 'p := {"a", "b"}', ['p := {"b"}', 'p := {"a"}']),
    ("drop-element", "p := [1, 2, 3]", ["p := [2, 3]", "p := [1, 3]", "p := [1, 2]"]),
    ("drop-element", 'p := {"a": 1, "b": 2}', ['p := {"b": 2}', 'p := {"a": 1}']),
    ("drop-element", 'p := {"a"}', ["p := set()"]),
    ("drop-element", 'p := ["a"]', ["p := []"]),
    ("drop-element", 'p := {"a": 1}', ["p := {}"]),
    ("fill-collection", "p := set()", ['p := {"mutant"}']),
    ("fill-collection", "p := []", ['p := ["mutant"]']),
    ("fill-collection", "p := {}", ['p := {"mutant": true}']),
    ("widen-membership", 'p if not input.a in {"x"}', ["p if not input.a in {input.a}"]),
    ("widen-membership", 'p if input.a in {"x"}', []),
    ("drop-default", "default p := 3", [""]),
    ("drop-else", "p := 1 if { input.a } else := 2 if { input.b } else := 3",
        ["p := 1 if { input.a } else := 3", "p := 1 if { input.a } else := 2 if { input.b } "]),
    ("drop-rule", "p if { input.a }", ["p if { false; input.a }"]),
    ("drop-rule", "p if input.a", ["p if { false; input.a }"]),
    ("drop-rule", "p := 1", ["p := 1 if false"]),
    ("drop-rule", "p contains x if some x in input.l", ["p contains x if { false; some x in input.l }"]),
    ("head-value", "p if input.a", ["p := false if input.a"]),
    ("head-value", "f(x) if x", ["f(x) := false if x"]),
    ("head-value", "p contains 1 if input.a", []),
    ("arithmetic", "p := input.a + 1", ["p := input.a - 1"]),
    ("arithmetic", "p := input.a * 2", ["p := input.a / 2"]),
    ("arithmetic", "p := input.a & input.b", ["p := input.a | input.b"]),
    ("arithmetic", "p := input.a | input.b", ["p := input.a & input.b"]),
    ("arithmetic", "p := input.a - input.b", ["p := input.a + input.b", "p := input.a | input.b", "p := input.a & input.b"]),
    ("drop-operand", "p := input.a | input.b", ["p := input.a", "p := input.b"]),
    ("drop-operand", "p := input.a - input.b", ["p := input.a"]),
    ("drop-operand", "p := (input.a | input.b) | input.c",
        ["p := (input.a | input.b)", "p := input.c", "p := (input.a) | input.c", "p := (input.b) | input.c"]),
    ("builtin", 'p if startswith(input.a, "x")', ['p if endswith(input.a, "x")']),
    ("builtin", "p := max(input.l)", ["p := min(input.l)"]),
    ("drop-call", "p := lower(input.a)", ["p := input.a"]),
    ("drop-call", "p if not lower(input.a)", ["p if not input.a"]),
    ("drop-with", "p if q with input as 1 with data.x as 2", ["p if q  with data.x as 2", "p if q with input as 1 "]),
    ("swap-arguments", "p if f(input.a, 1)", ["p if f(1, input.a)"]),
    ("swap-arguments", "p if f(1, 1)", []),
]  # fmt: skip


@pytest.fixture(scope="module")
def mutants_of(opa_binary):
    def mutants_of(text):
        return make_mutants(SourceText.parse(opa_binary, "a.rego", text.encode()))

    return mutants_of


@pytest.mark.parametrize(("operator", "rule", "expected"), CASES, ids=lambda value: str(value)[:40])
def test_operator_makes_these_mutants_of_a_rule(operator, rule, expected, mutants_of):
    package = "package site\n\n"
    made = [m.content for m in mutants_of(package + rule) if m.operator == operator]
    assert sorted(made) == sorted(package + changed for changed in expected)


def test_the_how_to_lists_every_operator():
    page = (ROOT / "docs" / "how-to" / "test-site-rules-with-mutants.md").read_text()
    listed = re.findall(r"^\| `([a-z-]+)`", page, re.MULTILINE)
    assert sorted(listed) == sorted({operator for operator, *_ in CASES})


def test_package_imports_comments_and_metadata_are_left_alone(mutants_of):
    text = '# METADATA\n# title: "x"\npackage site\n\nimport data.lictor.actions\n\n# 1 == 2\n'
    assert mutants_of(text) == []
    for mutant in mutants_of(text + "p := 1 # 3\n"):
        assert mutant.content.startswith(text)
        assert "# 3" in mutant.content


def test_lines_of_a_mutant_are_where_they_were(mutants_of):
    text = "package site\n\np if {\n\tinput.a\n\tinput.b\n}\n\nq := 1\n"
    for mutant in mutants_of(text):
        assert mutant.content.splitlines()[-1].startswith("q :=")
        assert len(mutant.content.splitlines()) == len(text.splitlines())


@pytest.mark.parametrize(
    "text", ['package site\n\np if {\n\tinput.a == "ünï"; input.b == "☃"\n}\n']
)
@pytest.mark.parametrize(
    "change", [lambda t: t, lambda t: t.replace("\n", "\r\n"), lambda t: "\ufeff" + t]
)
def test_places_are_found_beside_odd_characters_and_line_ends(text, change, mutants_of):
    found = {(m.operator, m.before) for m in mutants_of(change(text))}
    assert ("string", '"☃"') in found
    assert ("drop-expression", 'input.b == "☃"') in found


def test_alike_changes_are_numbered_in_the_order_of_the_text(mutants_of):
    text = "package site\n\np if input.a == 1\n\np if input.a == 1\n"
    alike = [(m.row, m.occurrence) for m in mutants_of(text) if m.operator == "comparison"]
    assert alike == [(3, 1), (5, 2)]


def test_identity_stays_when_other_lines_change(mutants_of):
    before = mutants_of("package site\n\np if {\n\tinput.a == 1\n}\n")
    after = mutants_of("package site\n\n# new\nq := 2\n\np if {\n    input.a  ==  1\n}\n")
    assert {m.identity for m in before} <= {m.identity for m in after} | {
        m.identity for m in before if m.operator == "drop-rule"
    }


def test_diff_shows_the_changed_lines_alone(mutants_of):
    mutants = mutants_of("package site\n\np if {\n\tinput.a\n\tinput.b == 1\n}\n")
    (mutant,) = [m for m in mutants if m.operator == "comparison"]
    assert (mutant.row, mutant.rule) == (5, "p if {")
    assert mutant.diff == "-\tinput.b == 1\n+\tinput.b != 1"
