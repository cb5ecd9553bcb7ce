"""The names that rules hold constant, by the kind of what they are compared with."""

import pytest

from bundles.build.rule_names import names_in_rules
from bundles.build.source_text import SourceText

SOME = "some action in data.lictor.actions"

# Rules, and (kind, text, test) of each name in them.
CASES = {
    "head of deny, by name": ('deny contains {"action": "pay", "code": "c", "message": "m"}', [("tool", "pay", "equal")]),
    "head of deny, by parts": (
        'deny contains {"action": {"name": "pay", "tags": ["money"], "method": "tools/call"}, "code": "c", "message": "m"}',
        [("method", "tools/call", "equal"), ("tag", "money", "equal"), ("tool", "pay", "equal")],
    ),
    "name equals": (f'p if {{ {SOME}; action.name == "pay" }}', [("tool", "pay", "equal")]),
    "name differs, the other way round": (f'p if {{ {SOME}; "pay" != action.name }}', [("tool", "pay", "equal")]),
    "name in a set": (f'p if {{ {SOME}; action.name in {{"pay", "buy"}} }}', [("tool", "buy", "equal"), ("tool", "pay", "equal")]),
    "name in a rule with constants": (
        f'p if {{ {SOME}; action.name in _pays }}\n_pays := {{"pay"}}', [("tool", "pay", "equal")]),
    "name in a set rule": (f'p if {{ {SOME}; action.name in pays }}\npays contains "pay"', [("tool", "pay", "equal")]),
    "name in another package": (f'p if {{ {SOME}; action.name in data.site.pays }}\npays contains "pay"', [("tool", "pay", "equal")]),
    "name looked up": (f'p if {{ {SOME}; _pays[action.name] }}\n_pays := {{"pay": 1}}', [("tool", "pay", "equal")]),
    "name by a pattern": (f'p if {{ {SOME}; glob.match("pay_*", null, action.name) }}', [("tool", "pay_*", "glob")]),
    "name by a regular expression": (f'p if {{ {SOME}; regex.match("^pay", action.name) }}', [("tool", "^pay", "regex")]),
    "name by its beginning, end and part": (
        f'p if {{ {SOME}; startswith(action.name, "a"); endswith(action.name, "b"); contains(action.name, "c") }}',
        [("tool", "a", "prefix"), ("tool", "b", "suffix"), ("tool", "c", "part")],
    ),
    "method": (f'p if {{ {SOME}; action.method == "tools/cal" }}', [("method", "tools/cal", "equal")]),
    "tag in tags": (f'p if {{ {SOME}; "write" in action.tags }}', [("tag", "write", "equal")]),
    "no such tag": (f'p if {{ {SOME}; not "write" in action.tags }}', [("tag", "write", "equal")]),
    "tag of tags": (f'p if {{ {SOME}; some t in action.tags; t == "write" }}', [("tag", "write", "equal")]),
    "tag by index": (f'p if {{ {SOME}; action.tags[_] == "write" }}', [("tag", "write", "equal")]),
    "every tag": (f'p if {{ {SOME}; every t in action.tags {{ t != "write" }} }}', [("tag", "write", "equal")]),
    "tags and a set": (f'p if {{ {SOME}; count({{t | some t in action.tags}} & {{"write"}}) > 0 }}', [("tag", "write", "equal")]),
    "action by index": ('p if data.lictor.actions[_].name == "pay"', [("tool", "pay", "equal")]),
    "action with its index": ('p if { some i, a in data.lictor.actions; a.name == "pay" }', [("tool", "pay", "equal")]),
    "action of the input": ('p if input.action.name == "pay"', [("tool", "pay", "equal")]),
    "action through a function": (
        f'p if {{ {SOME}; f(action) }}\nf(a) if g(a.name)\ng(n) if n == "pay"', [("tool", "pay", "equal")]),
    "name through a variable": (f'p if {{ {SOME}; n := action.name; n == "pay" }}', [("tool", "pay", "equal")]),
    "in an else": (f'f(a) if a.x else := 1 if a.name == "pay"\np if {{ {SOME}; f(action) }}', [("tool", "pay", "equal")]),
    "in a comprehension": ('p := [1 | some a in data.lictor.actions; a.name == "pay"]', [("tool", "pay", "equal")]),
    "hidden": ('hidden contains "poe"', [("library", "poe", "equal")]),
    "library in the granted": ('p if "poe" in data.lictor.granted_libraries', [("library", "poe", "equal")]),
    "library of the granted": ('p if { some u in data.lictor.granted_libraries; u == "poe" }', [("library", "poe", "equal")]),
    "library's record": ('p if data.lictor.library("poe").name == "x"', [("library", "poe", "equal")]),
    "library's tag": (
        'p if { some u in data.lictor.granted_libraries; "draft" in data.lictor.library(u).tags }',
        [("library tag", "draft", "equal")],
    ),
    "the principal's name is another": ('p if data.lictor.principal.name == "Archive"', []),
    "code and message": (f'deny contains {{"action": action.name, "code": "x", "message": "y"}} if {SOME}', []),
    "a text of no kind": ('p if input.context.server == "books"', []),
    "a name in a name of its own": (f'p if {{ {SOME}; action.uri == "data://x" }}', []),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_names_in_a_rule_have_these_kinds(case, opa_binary):
    rules, expected = CASES[case]
    source = SourceText.parse(opa_binary, "a.rego", f"package site\n\n{rules}\n".encode())
    found = [(name.kind.value, name.text, name.test) for name in names_in_rules([source])]
    assert sorted(found) == sorted(expected)


def test_imports_stand_for_their_paths(opa_binary):
    text = b'package site\n\nimport data.lictor.actions as all\nimport data.lictor\n\np if all[_].name == "pay"\n\nq if "poe" in lictor.granted_libraries\n'
    found = names_in_rules([SourceText.parse(opa_binary, "a.rego", text)])
    assert [(name.row, name.kind.value, name.text) for name in found] == [
        (6, "tool", "pay"),
        (8, "library", "poe"),
    ]


def test_constants_may_be_in_another_file(opa_binary):
    rules = b"package site\n\np if { some a in data.lictor.actions; a.name in pays }\n"
    constants = b'package site\n\npays := ["pay"]\n'
    sources = [
        SourceText.parse(opa_binary, n, t) for n, t in (("a.rego", rules), ("b.rego", constants))
    ]
    (found,) = names_in_rules(sources)
    assert (found.text, found.kind.value) == ("pay", "tool")
