"""`lictor policies` and `lictor decide`, as a security team types them."""

import json
import shutil
import subprocess
from xml.etree import ElementTree as ET

import pytest

from lictor.cli import run

RULE = """package site

deny contains {"action": action.name, "code": "closed", "message": "Closed."} if {
	some action in data.lictor.actions
	action.name == "pay"
	action.arguments.amount > 100
}

hidden contains uid if {
	some uid in data.lictor.granted_libraries
	"draft" in data.lictor.library(uid).tags
}
"""
TESTS = """package site_test

import data.site

test_large_payments_are_refused if {
	print("tried with", 101)
	site.deny with data.lictor.actions as [{"name": "pay", "arguments": {"amount": 101}}]
}
"""


@pytest.fixture
def lictor(capsys, monkeypatch, tmp_path):
    def call(*arguments):
        code = run([str(one) for one in arguments])
        call.out, call.err = capsys.readouterr()
        return code

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LICTOR_STATE", str(tmp_path / "none"))
    (tmp_path / "site").mkdir()
    return call


@pytest.fixture
def site(tmp_path):
    (tmp_path / "site").mkdir(exist_ok=True)
    (tmp_path / "site" / "rules.rego").write_text(RULE)
    (tmp_path / "site" / "rules_test.rego").write_text(TESTS)
    return tmp_path / "site"


def test_build_prints_rules_inputs_and_tests(lictor, site):
    (site / "notes.txt").write_text("x")
    assert lictor("policies", "build", "--site", "site", "--format=json") == 0
    policy, built = json.loads(lictor.out)
    assert policy["bundle"] == "policy"
    assert built["reads"] == {"clock": False, "arguments": True, "libraries": True}
    assert built["rules"] == [
        {
            "location": "site/rules.rego:3", "effect": "deny", "code": "closed",
            "reads": ["arguments"], "tests": ["test_large_payments_are_refused"],
        },
        {"location": "site/rules.rego:9", "effect": "hidden", "code": None, "reads": ["libraries"], "tests": []},
    ]  # fmt: skip
    assert built["left_out"] == [
        {"path": "site/notes.txt", "reason": "its name does not end in .rego"}
    ]
    assert lictor("policies", "build", "--site", "site") == 0
    assert "site/rules.rego:3" in lictor.out
    assert "left out: site/notes.txt" in lictor.err


def test_build_shows_a_syntax_error_as_file_row_and_line(lictor, site):
    (site / "rules.rego").write_text("package site\n\ndeny contains if {\n}\n")
    assert lictor("policies", "build", "--site", "site") == 1
    assert lictor.out == ""
    assert lictor.err.startswith("lictor: site/rules.rego:3:")
    assert "deny contains if {" in lictor.err
    assert "rego_parse_error" not in lictor.err


def test_test_command_prints_results_and_output(lictor, site):
    assert lictor("policies", "test", "--site", "site", "-v") == 0
    assert "PASSED site_test.test_large_payments_are_refused (site/rules_test.rego:5)" in lictor.out
    assert "    tried with 101" in lictor.out
    assert lictor.out.endswith("PASS: 1/1\n")
    assert lictor("policies", "test", "--site", "site") == 0
    assert lictor.out == "PASS: 1/1\n"


def test_test_names_the_lines_that_no_test_reaches(lictor, site):
    assert lictor("policies", "test", "--site", "site", "--coverage") == 0
    assert "site/rules.rego: no test reaches line 9, 11" in lictor.out
    assert lictor("policies", "test", "--site", "site", "--threshold", "90") == 1
    assert "less than 90 %" in lictor.err
    assert lictor("policies", "test", "--site", "site", "--threshold", "10", "--format=json") == 0
    covered = json.loads(lictor.out)["coverage"]
    assert covered["missing"] == {"site/rules.rego": [9, 11]}
    assert 10 < covered["percent"] < 90


def test_test_command_fails_when_no_test_ran(lictor, site):
    (site / "rules_test.rego").unlink()
    assert lictor("policies", "test", "--site", "site") == 1
    assert "no test ran" in lictor.err
    (site / "rules_test.rego").write_text(TESTS)
    assert lictor("policies", "test", "--site", "site", "--run", "no_such_test") == 1
    assert "no test ran" in lictor.err


@pytest.mark.parametrize(
    "package", ["site_test", "site.pay_test", "pay_test", "tests.of.pay", "site"]
)
def test_test_command_runs_tests_in_any_package(lictor, site, package):
    (site / "rules_test.rego").write_text(f"package {package}\n\ntest_wrong if 1 == 2\n")
    assert lictor("policies", "test", "--site", "site") == 1
    assert f"FAILED {package}.test_wrong (site/rules_test.rego:3)" in lictor.out
    assert "FAIL: 1/1" in lictor.out


def test_test_command_refuses_duplicate_test_names(lictor, site):
    (site / "rules_test.rego").write_text(
        "package site_test\n\ntest_x if 1 == 2\n\ntest_x if true\n"
    )
    assert lictor("policies", "test", "--site", "site") == 1
    assert "site/rules_test.rego:5:1: test_x stands more than once" in lictor.err


def test_test_that_never_ends_is_stopped(lictor, site):
    (site / "rules_test.rego").write_text(
        "package site_test\n\ntest_loop if count([1 | some x in numbers.range(1, 9000); some y in "
        "numbers.range(1, 9000); x == -y]) == 1\n"
    )
    assert lictor("policies", "test", "--site", "site", "--timeout", "0.5") == 1
    assert "STOPPED site_test.test_loop" in lictor.out


def test_junit_lists_each_test_with_its_place(lictor, site):
    (site / "rules_test.rego").write_text(TESTS + '\ntest_wrong if { print("\\u0001"); false }\n')
    assert lictor("policies", "test", "--site", "site", "--format=junit") == 1
    suite = ET.fromstring(lictor.out)
    assert (suite.get("tests"), suite.get("failures")) == ("2", "1")
    first, second = suite
    assert (first.get("name"), first.get("file"), first.get("line")) == (
        "test_large_payments_are_refused", "site/rules_test.rego", "5",
    )  # fmt: skip
    assert second.find("failure") is not None


@pytest.mark.parametrize(
    "wrong", [["--run", "("], ["--threshold", "101"], ["--timeout", "0"], ["--format", "xml"]]
)
def test_wrong_options_are_usage_errors(lictor, site, wrong):
    assert lictor("policies", "test", "--site", "site", *wrong) == 2


def test_compiler_error_in_a_test_has_its_place(lictor, site):
    (site / "rules_test.rego").write_text("package site_test\n\ntest_x if no_such(1)\n")
    assert lictor("policies", "test", "--site", "site") == 1
    assert "site/rules_test.rego:3:" in lictor.err


def test_new_repository_is_green_as_made(lictor, tmp_path, opa_binary):
    assert lictor("policies", "new", "my rules") == 0
    made = tmp_path / "my rules"
    site = made / "site"
    assert lictor("policies", "build", "--site", site) == 0
    assert lictor("policies", "test", "--site", site, "--threshold", "100") == 0
    subprocess.run([opa_binary.path, "test", "."], cwd=made, check=True)
    subprocess.run([opa_binary.path, "test", "site", "stubs"], cwd=made, check=True)
    subprocess.run([opa_binary.path, "check", "--strict", "site", "stubs"], cwd=made, check=True)
    assert opa_binary.run("fmt", "--list", ".", cwd=made) == b""
    if regal := shutil.which("regal"):
        subprocess.run([regal, "lint", "."], cwd=made, check=True)
    for workflow in (".github/workflows/policies.yml", ".gitlab-ci.yml"):
        assert "@VERSION@" not in (made / workflow).read_text()


def test_new_repository_overwrites_nothing(lictor, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").touch()
    assert lictor("policies", "new", "full") == 2
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["x"]
    assert lictor("policies", "new", "full/x") == 2


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ([], "nothing to decide"),
        (["--tool=x", "--arguments=[1]"], "--arguments: "),
        (["--tool=x", "--arguments={"], "--arguments: "),
        (["--tool=x", '--arguments={}, "name": "y"'], "--arguments: "),
        (["--tool=x", "--annotations=7"], "--annotations: "),
        (["--action=none.json"], "none.json: No such file"),
        (["--action=wrong.json"], "wrong.json: tagz: "),
    ],
)
def test_invalid_question_is_a_usage_error(lictor, tmp_path, given, said):
    (tmp_path / "wrong.json").write_text('{"name": "x", "tagz": []}')
    assert lictor("decide", *given) == 2
    assert said in lictor.err
