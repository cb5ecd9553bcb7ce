"""The docs say what the program does: their blocks run, their tables are the code's, their links lead somewhere."""

import ast
import importlib
import inspect
import json
import re
import tomllib
from dataclasses import fields

import pytest
import yaml

import mcp_plugin
import pdp_client
from bundles.build.builtins import ALLOWED, read_declarations
from bundles.build.visible import READABLE
from lictor.cli import app
from lictor.commands.decide import EXIT_CODES
from lictor.console import Common
from lictor.settings import Settings
from mcp_plugin import PolicyMiddleware
from pdp_client import PDP, Decision, Reason, ReasonClass, reasons
from registry.document import import_document
from registry.model import DEFAULT_SETTINGS

from .conftest import DOCS, GIVEN, PAGES, ROOT, blocks, missing

README = ROOT / "README.md"
REFERENCE = DOCS / "reference"
SHARED = {f"--{field.name.replace('_', '-')}" for field in fields(Common)}
OURS = {"lictor_common", "pdp_client", "mcp_plugin", "lictor", "bundles", "registry"}


def page_name(page):
    return page.stem


def cells(page, heading):
    """The rows of the first table below a heading, each as its cells."""
    below = f"\n{page.read_text()}".split(f"\n{heading}\n", 1)[1]
    table = re.search(r"(?:^\|.*\n)+", below, re.MULTILINE)[0].splitlines()
    rows = [re.split(r"(?<!\\)\|", row)[1:-1] for row in table[2:]]
    return [[cell.strip().replace(r"\|", "|") for cell in row] for row in rows]


def code(text):
    """What stands in backticks in a text."""
    return re.findall(r"`([^`]+)`", text)


# What is typed


@pytest.mark.parametrize(
    "page", [p for p in PAGES if any(b.mark for b in blocks(p))], ids=page_name
)
def test_page_commands_run_as_documented(page, reader, state_template):
    for given in re.findall(r"^<!-- given: (.*) -->$", page.read_text(), re.MULTILINE):
        GIVEN[given](reader, state_template)
    for block in blocks(page):
        reader.follow(block)


def test_page_output_is_compared_line_by_line_in_order():
    output = "id: lct_…37cbedf5\nuser: ada\ndigest: 00112233445566\n"

    assert missing(["id: lct_…00000000", "digest: …"], output) is None
    assert missing(["user:   ada"], output) is None
    assert missing(["user: bob"], output) == "user: bob"
    assert missing(["user: ada", "id: lct_…37cbedf5"], output) == "id: lct_…37cbedf5"


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_page_test_comments_stand_where_they_are_read(page):
    meant = re.findall(r"^<!-- (?:run|file)\b.*-->$", page.read_text(), re.MULTILINE)
    assert len(meant) == sum(bool(block.mark) for block in blocks(page))


# What is shown without being run


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_page_snippets_parse(page):
    readers = {
        "json": json.loads,
        "yaml": yaml.safe_load,
        "toml": tomllib.loads,
        "python": ast.parse,
    }
    for block in blocks(page):
        if block.kind in readers:
            readers[block.kind](block.text)


@pytest.mark.parametrize("page", [*PAGES, README], ids=page_name)
def test_page_python_imports_public_names(page):
    for block in blocks(page):
        if block.kind != "python":
            continue
        for node in ast.walk(ast.parse(block.text)):
            if isinstance(node, ast.ImportFrom) and node.module in OURS:
                public = importlib.import_module(node.module).__all__
                assert {name.name for name in node.names} <= set(public)


@pytest.mark.anyio
async def test_page_settings_can_be_imported(deployment):
    printed = [b.text for p in PAGES for b in blocks(p) if b.mark == "file: settings.yaml"]
    assert printed
    for text in printed:
        await import_document(deployment.registry, text, actor="tests")


@pytest.mark.parametrize("page", [*PAGES, README], ids=page_name)
def test_links_lead_somewhere(page):
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if link.startswith(("https://", "http://", "mailto:")):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        if anchor:
            headings = re.findall(r"^#+ (.*)$", target.read_text(), re.MULTILINE)
            anchors = {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}
            assert anchor in anchors, link


# Tables


def commands(parent=app, path=()):
    """Every command that can be typed, with its parameters: a positional's name, or a flag."""
    names = [name for name in parent if not name.startswith("-")]
    if not names:
        found = parent.assemble_argument_collection()
        taken = [a for a in found if a.show and a.names[0] not in SHARED]
        yield (
            " ".join(path),
            {(a.names[0].strip("-").replace("-", "_").lower(), a.required) for a in taken},
        )
    for name in names:
        yield from commands(parent[name], (*path, name))


def test_every_command_and_flag_is_listed_and_no_other():
    listed = {}
    rows = re.findall(r"^\| `lictor ([^`]+)`", (REFERENCE / "cli.md").read_text(), re.MULTILINE)
    for row in rows:
        words = re.match(r"[a-z]+(?: [a-z]+)*", row)[0]
        listed[words] = set()
        for part in re.findall(r"\[.*?\]|--\S+(?: [A-Z_]+)?|[A-Z_]+", row):
            name = re.search(r"[\w-]+", part.strip("[]-"))[0].replace("-", "_").lower()
            listed[words].add((name, not part.startswith("[")))

    assert listed == dict(commands())


def test_flags_that_every_command_has_are_listed_once():
    rows = cells(REFERENCE / "cli.md", "# The `lictor` command")
    assert {code(row[0])[0].split()[0] for row in rows} == {*SHARED, "--help"}


def test_exit_codes_are_those_of_the_program():
    rows = {row[0]: row[1] for row in cells(REFERENCE / "cli.md", "## Exit codes")}
    assert set(rows) == {"0", "1", "2", "3", "4"}
    for reason_class, word in (
        (ReasonClass.OK, "allowed"),
        (ReasonClass.OUTAGE, "an outage"),
        (ReasonClass.AUTHORISATION, "denied"),
        (ReasonClass.AUTHENTICATION, "not authenticated"),
    ):
        assert word in rows[str(EXIT_CODES[reason_class])]


def test_table_of_reasons_is_the_code_s():
    rows = cells(REFERENCE / "decision.md", "## Reasons")

    assert [(code(row[0])[0], row[1], int(row[2]), row[4]) for row in rows] == [
        (r.value, r.reason_class.value, EXIT_CODES[r.reason_class], reasons._MESSAGES[r])
        for r in Reason
    ]


def test_order_of_reasons_is_the_rules():
    rego = (ROOT / "policies" / "lictor" / "reasons.rego").read_text()
    order = re.search(r"^_order := \[(.*?)\]", rego, re.DOTALL | re.MULTILINE)[1]
    listed = (REFERENCE / "decision.md").read_text().split("<!-- order -->\n")[1].split("\n\n")[0]
    found = re.findall(r'"(\w+)"', order)

    assert code(listed) == found
    by = {code(row[0])[0]: row[3] for row in cells(REFERENCE / "decision.md", "## Reasons")}
    assert {reason for reason, who in by.items() if who != "Python"} | {"unavailable"} == set(found)


def test_fields_of_a_decision_are_the_code_s():
    answer = next(b for b in blocks(REFERENCE / "decision.md") if '"result"' in b.text)
    listed = {
        name for row in cells(REFERENCE / "decision.md", "## The response") for name in code(row[0])
    }
    made_here = {"cached", "credential", "decision_id", "shadowed", "errors"}
    known = {field.name for field in fields(Decision)} - made_here | {"shadow"}

    assert listed == set(json.loads(answer.text)["result"]) == known


def test_fields_of_a_record_are_the_code_s():
    from pdp_client import Action
    from pdp_client.decision import Context
    from pdp_client.record import entry

    listed = {
        name for row in cells(REFERENCE / "decision.md", "## The record") for name in code(row[0])
    }
    decision = Decision.refused(Reason.LOCKDOWN)
    assert listed == set(
        entry(decision, at=0, took_ms=0, action=Action(name="x"), context=Context())
    )


def test_table_of_settings_is_the_code_s():
    rows = cells(REFERENCE / "settings.md", "# Settings")
    assert [code(row[0])[0] for row in rows] == [
        f"LICTOR_{n.upper()}" for n in Settings.model_fields
    ]
    flags = [f"--{n.replace('_', '-')}" for n in Settings.model_fields]
    assert [code(row[1]) for row in rows] == [[f] if f in SHARED else [] for f in flags]
    assert [code(row[2]) for row in rows[1:]] == [
        [n] for n in Settings.model_fields if n != "state"
    ]

    rows = cells(REFERENCE / "settings.md", "## Settings in the registry")
    assert {code(r[0])[0]: json.loads(code(r[1])[0]) for r in rows} == dict(DEFAULT_SETTINGS)


def test_files_that_init_makes_are_listed_with_their_modes(state_template):
    text = (REFERENCE / "settings.md").read_text().split("## The state directory")[1]
    for path in state_template.rglob("*"):
        if path.is_file() and path.suffix != ".rego" and path.parent.name != "bundles":
            name = path.name.replace("mnemosyne", "<issuer>")
            row = next(
                line for line in text.splitlines() if line.startswith("|") and f"{name}`" in line
            )
            mode = f"0{path.stat().st_mode & 0o777:o}"
            assert mode in row or path.name == "lictor.toml", (row, mode)


def test_page_lists_exactly_the_public_names():
    for package in (pdp_client, mcp_plugin):
        rows = cells(REFERENCE / "python.md", f"## `{package.__name__}`")
        assert sorted(code(row[0])[0] for row in rows) == sorted(package.__all__)


def test_arguments_that_are_listed_are_the_code_s():
    rows = cells(REFERENCE / "python.md", "### PDP")
    taken = list(inspect.signature(PDP).parameters.values())
    assert [code(row[0])[0] for row in rows] == [p.name for p in taken]
    page = (REFERENCE / "python.md").read_text()
    for function in (PDP.authorize, PDP.visible, PDP.allow_public):
        printed = re.search(rf"`(?:await )?{function.__name__}\((.*?)\)(?: ->|`)", page)[1]
        listed = [one.partition("=")[0].strip() for one in printed.replace("()", "").split(",")]
        known = [name for name in inspect.signature(function).parameters if name != "self"]
        assert [name for name in listed if name != "*"] == known
    printed = re.search(r"`PolicyMiddleware\((.*?)\)`", page)[1]
    known = list(inspect.signature(PolicyMiddleware).parameters)
    assert [
        one.partition("=")[0].strip() for one in printed.split(",") if one.strip() != "*"
    ] == known


def test_page_on_rego_lists_what_the_build_allows(opa_binary):
    rows = cells(REFERENCE / "rego.md", "## What a site rule may read")
    names = {name for row in rows for name in code(row[0])}
    assert {
        name.removeprefix("data.lictor.") for name in names if "data.lictor" in name
    } == READABLE
    listed = (REFERENCE / "rego.md").read_text().split("<!-- forbidden -->\n")[1].split(". Rego")[0]
    assert code(listed) == sorted(read_declarations(opa_binary).keys() - ALLOWED)


def test_architecture_table_names_existing_places():
    rows = cells(DOCS / "explanation" / "architecture.md", "## Where is it")
    assert len(rows) > 10
    for _, where in rows:
        path, *names = code(where)
        assert (ROOT / path).exists(), path
        for name in names if path.endswith(".py") else []:
            module = importlib.import_module(path.removesuffix(".py").replace("/", "."))
            found = module
            for part in name.split("."):
                found = getattr(found, part)


def test_every_page_is_in_the_index():
    linked = re.findall(r"\]\(([^)#\s]+\.md)\)", (DOCS / "index.md").read_text())
    pages = {(DOCS / link).resolve() for link in linked}
    assert {page for page in pages if page.is_relative_to(DOCS)} == {*PAGES} - {DOCS / "index.md"}
