"""`lictor policies mutate`, over folders of site rules."""

import json

import pytest

from lictor.cli import run

RULES = 'package site\n\np if input.a == 1\n\nq if input.b == "x"\n'
TESTS = """package site_test

import data.site

test_p if site.p with input as {"a": 1}

test_not_p if not site.p with input as {"a": 2}
"""
LISTED = """\
- reason: Only an example.
  mutants:
    - {file: rules.rego, rule: 'q if input.b == "x"', operator: string, before: '"x"', after: '""'}
    - {file: rules.rego, rule: p if input.a == 1, operator: comparison, before: "==", after: "!="}
    - {file: gone.rego, rule: p if input.a == 1, operator: comparison, before: "==", after: "!="}
"""


@pytest.fixture
def mutate(tmp_path, capsys):
    """Write a site's files, run the command on them, and return its exit code and what it printed."""

    def mutate(files, *flags):
        for name, text in files.items():
            path = tmp_path / "site" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        code = run(["policies", "mutate", "--site", str(tmp_path / "site"), *flags])
        return code, *capsys.readouterr()

    return mutate


SITE = {"rules.rego": RULES, "rules_test.rego": TESTS}


def test_survivors_are_printed_and_fail_the_threshold(mutate):
    code, out, err = mutate(SITE)
    assert code == 1
    assert (
        'rules.rego:5: comparison in q if input.b == "x"\n    -q if input.b == "x"\n    +q if input.b != "x"\n'
        in out
    )
    assert "rules.rego:3:" not in out
    assert "passed: no" in out
    assert "mutants run" in err


def test_mutate_json_is_one_complete_object(mutate):
    code, out, _ = mutate(SITE, "--format", "json", "--threshold", "10")
    printed = json.loads(out)
    assert code == 0
    assert printed["passed"] is True
    assert 10 < printed["score"] < 100
    assert printed["killed"] + printed["survived"] + printed["invalid"] == printed["mutants"]
    assert {s["file"] for s in printed["survivors"]} == {"rules.rego"}
    assert {s["row"] for s in printed["survivors"]} == {5}
    assert all(s["rule"].startswith("q if") for s in printed["survivors"])


def test_mutate_all_killed_scores_100(mutate):
    tests = (
        TESTS
        + '\ntest_q if site.q with input as {"b": "x"}\n\ntest_not_q if not site.q with input as {"b": ""}\n'
    )
    code, out, _ = mutate({**SITE, "rules_test.rego": tests})
    assert code == 0
    assert "score: 100.0" in out


def test_listed_mutants_do_not_count_and_the_list_is_checked(mutate):
    whole = json.loads(mutate(SITE, "--format", "json")[1])
    _, out, err = mutate({**SITE, ".lictor/equivalent-mutants.yaml": LISTED}, "--format", "json")
    printed = json.loads(out)
    assert printed["equivalent"] == 2
    assert printed["survived"] == whole["survived"] - 1
    assert printed["mutants"] == whole["mutants"]
    disproved, stale = sorted(printed["problems"], key=lambda text: "no mutant" in text)
    assert (
        "data.site_test.test_not_p tells it from the rule" in disproved
        or "test_p tells" in disproved
    )
    assert "gone.rego" in stale
    assert "matches no mutant any more" in stale
    assert err.count("equivalent mutants: ") == 2


def test_list_can_be_named(mutate, tmp_path):
    (tmp_path / "list.yaml").write_text(LISTED.replace("Only an example.", ""))
    code, _, err = mutate(SITE, "--equivalent", str(tmp_path / "list.yaml"))
    assert code == 1
    assert "entry 1 has no reason" in err


def test_mutate_one_file_changes_only_that_file(mutate):
    files = {**SITE, "more/other.rego": "package site.more\n\nr if input.c == 3\n"}
    printed = json.loads(mutate(files, "--file", "more/other.rego", "--format", "json")[1])
    assert {s["file"] for s in printed["survivors"]} == {"more/other.rego"}
    code, _, err = mutate(files, "--file", "none.rego")
    assert code == 2
    assert "none.rego" in err


def test_hidden_folders_are_left_alone(mutate):
    code, out, _ = mutate(
        {**SITE, ".draft/broken.rego": "package site\n\np if {\n"}, "--threshold=0"
    )
    assert code == 0
    assert "broken" not in out


def test_mutate_site_without_rules_has_no_mutants(mutate):
    code, out, err = mutate(
        {"site.rego": "# nothing yet\npackage site\n\nimport data.lictor.actions # all\n"}
    )
    assert code == 0
    assert "score: -" in out
    assert "has no rules" in err


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"rules.rego": RULES}, "There are no tests"),
        (
            {**SITE, "rules_test.rego": TESTS + "\ntest_no if false\n"},
            "test_no. Correct them first",
        ),
        ({**SITE, "rules.rego": "package site\n\np if {\n"}, "The tests cannot be run: "),
    ],
)
def test_mutate_tests_that_always_pass_exit_with_1(files, message, mutate):
    code, out, err = mutate(files)
    assert code == 1
    assert out == ""
    assert message in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    "flags",
    [
        ("--threshold", "101"),
        ("--threshold=-1",),
        ("--threshold", "nan"),
        ("--jobs", "0"),
        ("--timeout", "0"),
    ],
)
def test_flags_out_of_range_are_refused(flags, mutate):
    assert mutate(SITE, *flags)[0] == 2


def test_mutate_missing_folder_is_an_error(capsys, tmp_path):
    assert run(["policies", "mutate", "--site", str(tmp_path / "no\x1bne")]) == 1
    err = capsys.readouterr().err
    assert "\x1b" not in err
    assert "no\\x1bne: no such folder" in err


def test_control_characters_in_rules_are_escaped(mutate):
    code, out, _ = mutate(
        {**SITE, "odd\x07.rego": 'package site\n\nodd if input.b == "\u202e\u009b31m"\n'}
    )
    assert code == 1
    assert not any(character in out for character in "\x07\u202e\u009b")
    assert "odd%07.rego:3" in out
    assert "\\u202e\\x9b31m" in out


def test_default_list_of_lictors_own_rules_is_whole(opa_binary):
    from bundles.build.equivalents import DEFAULT_PATH, load_equivalents, match_equivalents
    from bundles.build.mutants import make_mutants
    from bundles.build.rule_sources import RuleSources
    from bundles.build.source_text import SourceText

    sources = RuleSources.of_product()
    entries = load_equivalents(sources.root / DEFAULT_PATH)
    mutants = [
        m
        for path, content in sources.rules()
        for m in make_mutants(SourceText.parse(opa_binary, path, content))
    ]
    assert match_equivalents(entries, mutants).problems == []
