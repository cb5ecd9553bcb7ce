"""The list of equivalent mutants: found by text, each with a reason."""

import pytest

from bundles.build.equivalents import load_equivalents, match_equivalents
from bundles.build.mutants import make_mutants
from bundles.build.source_text import SourceText
from bundles.exceptions import MutationError

RULES = b"package site\n\np if {\n\tinput.a == 1\n}\n\nq if input.a == 1\n"
ENTRY = """\
- reason: Nothing asks.
  mutants:
    - {file: a.rego, rule: "q if input.a == 1", operator: comparison, before: "==", after: "!="}
"""


@pytest.fixture
def matched(opa_binary, tmp_path):
    def matched(text, rules=RULES):
        path = tmp_path / "list.yaml"
        path.write_text(text)
        mutants = make_mutants(SourceText.parse(opa_binary, "a.rego", rules))
        return match_equivalents(load_equivalents(path), mutants)

    return matched


def test_an_entry_names_its_mutant_with_the_reason(matched):
    matches = matched(ENTRY)
    ((mutant, reason),) = matches.equivalent
    assert (mutant.row, mutant.operator, reason) == (7, "comparison", "Nothing asks.")
    assert mutant not in matches.others
    assert matches.problems == []


def test_an_entry_holds_when_other_lines_move(matched):
    moved = RULES.replace(b"package site\n", b"package site\n\n# more\n\nr := 7\n")
    assert len(matched(ENTRY, moved).equivalent) == 1


def test_an_entry_that_matches_nothing_is_a_problem(matched):
    matches = matched(ENTRY.replace("!=", "<="))
    assert matches.equivalent == []
    assert "matches no mutant any more" in matches.problems[0]


def test_an_entry_that_matches_several_asks_which(matched):
    rules = RULES + b"\nq if input.a == 1\n"
    assert "matches 2 mutants. Add `occurrence: 1`" in matched(ENTRY, rules).problems[0]
    second = ENTRY.replace("after:", "occurrence: 2, after:")
    ((mutant, _),) = matched(second, rules).equivalent
    assert mutant.row == 9


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (ENTRY.replace("Nothing asks.", ""), "entry 1 has no reason"),
        (ENTRY.replace("Nothing asks.", "' '"), "entry 1 has no reason"),
        (ENTRY.replace("Nothing asks.", "7"), "entry 1 has no reason"),
        ("- mutants: []\n", "entry 1 has no reason"),
        ("- text\n", "entry 1 has no reason"),
        ("- {reason: r}\n", "lists no mutants"),
        ("- {reason: r, mutants: []}\n", "lists no mutants"),
        ("- {reason: r, mutants: [{file: a}], more: 1}\n", "lists no mutants"),
        ("- {reason: r, mutants: [{file: a}]}\n", "without file, rule or operator"),
        ("- {reason: r, mutants: [text]}\n", "without file, rule or operator"),
        (ENTRY.replace("after:", "line: 7, after:"), "unknown key"),
        (ENTRY.replace('"=="', "7"), "wrong type"),
        (ENTRY.replace("after:", "occurrence: one, after:"), "wrong type"),
        ("reason: r\n", "is not a list"),
        ("- [\n", "cannot be read"),
        ("- !!python/object:os.system {}\n", "cannot be read"),
    ],
)
def test_a_list_that_cannot_be_used_is_an_error(text, message, matched):
    with pytest.raises(MutationError, match=message):
        matched(text)


def test_an_empty_list_names_nothing(matched):
    assert matched("").equivalent == []


def test_a_list_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(MutationError, match=r"none\.yaml cannot be read"):
        load_equivalents(tmp_path / "none.yaml")
