"""What may be signed as policy: every refusal names its file, and nothing else gets through."""

import json

import pytest
from support.signed_bundles import unpack

from bundles.build.policies import build_policy, build_site, check_site, product_folder
from bundles.build.site_rules import Reads
from bundles.exceptions import PolicyRefusedError
from bundles.publish.signing import SigningKey

KEY = SigningKey.generate("policy")
NOTHING = Reads(clock=False, arguments=False, libraries=False)


@pytest.fixture
def site(tmp_path):
    """A site's folder with one file of this text."""
    folder = tmp_path / "site"
    folder.mkdir()

    def write(text, name="rules.rego"):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return folder

    return write


def deny(body, head=""):
    return f"""package site

{head}

deny contains {{"action": action.name, "code": "c", "message": "m"}} if {{
\tsome action in data.lictor.actions
\t{body}
}}
"""


def manifest_of(bundle):
    return json.loads(unpack(bundle.content)["/data.json"])["site"]["manifest"]


REFUSED = {
    "http.send": deny('http.send({"url": "http://x", "method": "GET"}).status_code == 200'),
    "opa.runtime": deny("opa.runtime().env.HOME"),
    "net.lookup_ip_addr": deny('count(net.lookup_ip_addr("x")) > 0'),
    "net.cidr_contains": deny('net.cidr_contains("10.0.0.0/8", "10.0.0.1")'),
    "rego.parse_module": deny('rego.parse_module("x", "package x")'),
    "trace": deny('trace("hello")'),
    "with on http.send": deny("x", head="x if data.lictor.actions with http.send as 7"),
    "another package": "package lictor\n\nallow := true\n",
    "below lictor": "package lictor.caller\n\ngranted := true\n",
    "system": "package system.authz\n\nallow := true\n",
    "registry": 'package registry.live.users\n\nx := "y"\n',
    "a longer name": "package sites\n\nx := 1\n",
    "the manifest": "package site.manifest\n\nrevision := `x`\n",
    "below the manifest": "package site.manifest.x\n\ny := 1\n",
    "the manifest as a rule": 'package site\n\nmanifest := {"revision": "x"}\n',
    "a field of the manifest": 'package site\n\nmanifest.revision := "x"\n',
    "a complete deny": "package site\n\ndeny := set()\n",
    "a default deny": "package site\n\ndefault deny := set()\n",
    "a boolean deny": "package site\n\ndeny if input.action\n",
    "a deny that is an object": 'package site\n\ndeny["x"] := 1\n',
    "a deny with a path": "package site\n\ndeny.x contains 1\n",
    "a complete hidden": 'package site\n\nhidden := {"lib-a"}\n',
    "a hidden that is a function": "package site\n\nhidden(x) := x\n",
    "a syntax error": "package site\n\ndeny contains if {\n",
    "no package": "deny := 1\n",
    "empty": "",
    "no text": "\x00\x01",
    "old Rego": "package site\n\ndeny[x] { x := 1 }\n",
    "an undefined function": deny("no_such_function(action)"),
    "an unsafe variable": deny("x == y"),
    "an unused variable": deny("x := 1"),
    "an unused import": deny("true", head="import data.lictor.library"),
    "a conflict of types": deny('count(action.name) == "x"'),
    "recursion": deny("deny"),
    "the registry's data": deny('data.registry.live.users["ada"].active'),
    "the registry by an import": deny("live.users.ada", head="import data.registry.live"),
    "the registry by another name": deny("r.live.users.ada", head="import data.registry as r"),
    "the decision": deny("data.lictor.decision.allow"),
    "the caller": deny("data.lictor.caller.granted"),
    "the record function": deny('data.lictor.registry.record("users", "ada")'),
    "the caller by another name": deny("c.granted", head="import data.lictor.caller as c"),
    "the whole of lictor": deny("count(data.lictor) > 0"),
    "the whole of lictor by another name": deny("count(l) > 0", head="import data.lictor as l"),
    "lictor by a variable": deny("some k; data.lictor[k]"),
    "data by a variable": deny("some k; data[k].live"),
    "all data": deny("count(data) > 0"),
    "all data in a walk": deny("walk(data, [_, true])"),
    "the local clients": deny("data.local.clients"),
    "data in a comprehension": deny("count([1 | data.registry.live.epoch == 1]) > 0"),
    "data in an else": deny("f(1)", head="f(x) := 1 if x == 2\n\nelse := data.registry.live.epoch"),
    "data in a default": deny("x", head="default x := false\n\nx if data.system.authz.allow"),
    "data in a with": deny("data.lictor.actions with input as data.registry.live"),
    "data in a string": deny('contains($"{data.registry.live.epoch}", "1")'),
}  # fmt: skip


@pytest.mark.parametrize("fault", REFUSED)
def test_such_a_file_is_refused_by_its_name(opa_binary, site, fault):
    folder = site(REFUSED[fault])
    with pytest.raises(PolicyRefusedError, match=r"rules\.rego"):
        build_site(opa_binary, folder, KEY)


@pytest.mark.parametrize("name", ["data.json", "x.yaml", "sub/x.yml", "data.yaml"])
def test_data_files_are_refused(opa_binary, site, name):
    site(deny("true"))
    with pytest.raises(PolicyRefusedError, match=f"{name}: only Rego"):
        build_site(opa_binary, site("{}", name), KEY)


def test_a_fault_in_any_file_refuses_all_of_them(opa_binary, site):
    site(deny("true"))
    with pytest.raises(PolicyRefusedError, match=r"deep/er\.rego"):
        build_site(opa_binary, site("package lictor\n\nx := 1\n", "deep/er.rego"), KEY)


def test_a_folder_that_is_not_there_is_refused(opa_binary, tmp_path):
    with pytest.raises(PolicyRefusedError, match="no such folder"):
        build_site(opa_binary, tmp_path / "nothing", KEY)


def test_a_site_without_rules_is_a_site(opa_binary, tmp_path):
    (tmp_path / "site").mkdir()
    bundle = build_site(opa_binary, tmp_path / "site", KEY)
    assert manifest_of(bundle) == {
        "revision": bundle.revision, "clock": False, "arguments": False, "libraries": False,
    }  # fmt: skip


def test_tests_stay_at_home(opa_binary, site):
    site(deny("true"))
    folder = site(
        "package site_test\n\nimport data.registry\n\ntest_x if registry\n", "x_test.rego"
    )
    assert b"site_test" not in build_site(opa_binary, folder, KEY).content
    assert check_site(opa_binary, folder).reads == NOTHING


READS = {
    "nothing": (deny('action.name == "x"'), NOTHING),
    "tags and the principal": (deny('"write" in action.tags\n\tdata.lictor.principal.type == "team"'), NOTHING),
    "the credential and the context": (deny('input.credential.kind == "token"\n\tinput.context.server == "x"'), NOTHING),
    "the action's name": (deny('input.action.name == "x"\n\tinput.action.method\n\tinput.action.tags'), NOTHING),
    "the clock": (deny("time.now_ns() > 0"), Reads(clock=True)),
    "the clock in an argument": (deny("time.clock(time.now_ns())[0] < 6"), Reads(clock=True)),
    "the clock in a helper": (deny("late", head="late if time.now_ns() > 0"), Reads(clock=True)),
    "the clock in a comprehension": (deny("count({t | t := time.now_ns()}) == 1"), Reads(clock=True)),
    "a date without the clock": (deny('time.parse_rfc3339_ns("2026-11-23T00:00:00Z") > 0'), NOTHING),
    "chance": (deny('rand.intn("x", 2) == 1'), Reads(clock=True)),
    "a new id": (deny('uuid.rfc4122("x") != ""'), Reads(clock=True)),
    "a token's own clock": (deny('io.jwt.decode_verify("x", {"secret": "y"})[0]'), Reads(clock=True)),
    "arguments": (deny('action.arguments.q == "x"'), Reads(arguments=True)),
    "arguments in brackets": (deny('action["arguments"].q == "x"'), Reads(arguments=True)),
    "arguments by a key": (deny('some key in ["arguments"]\n\taction[key].q'), Reads(arguments=True)),
    "arguments of the input": (deny('input.action.arguments.q == "x"'), Reads(arguments=True)),
    "the whole action of the input": (deny("some k, v in input.action\n\tk == v"), Reads(arguments=True)),
    "the action of the input by another name": (deny("count(act) > 0", head="import input.action as act"), Reads(arguments=True)),
    "the input by another name": (deny('i.action[_] == "x"', head="import input as i"), Reads(arguments=True)),
    "the input by a variable": (deny("x := input\n\tx.action == action"), Reads(arguments=True)),
    "the input by a key": (deny("some k\n\tinput[k]"), Reads(arguments=True)),
    "the list's actions": (deny("count(input.actions) > 3"), Reads(arguments=True)),
    "object.get": (deny('object.get(action, "arguments", null) == null'), Reads(arguments=True)),
    "json.filter": (deny('json.filter(action, ["arguments/q"]) == {}'), Reads(arguments=True)),
    "a library's record": (deny('data.lictor.library("lib-a").name == "A"'), Reads(libraries=True)),
    "a library's record by import": (
        deny('library("lib-a").name == "A"', head="import data.lictor.library"), Reads(libraries=True),
    ),
    "a library's record by another name": (
        deny('rec("lib-a").name == "A"', head="import data.lictor.library as rec"), Reads(libraries=True),
    ),
    "the package by another name": (
        deny('l.library("lib-a").name == "A"', head="import data.lictor as l"), Reads(libraries=True),
    ),
    "granted libraries": (deny('"lib-a" in data.lictor.granted_libraries'), NOTHING),
    "the site's own": (deny("data.site.helper", head="helper := true"), NOTHING),
    "all of it": (
        deny('time.now_ns() > 0\n\taction.arguments.q\n\tdata.lictor.library("x").tags'),
        Reads(clock=True, arguments=True, libraries=True),
    ),
}  # fmt: skip


@pytest.mark.parametrize("rule", READS)
def test_what_a_rule_reads_is_found(opa_binary, site, rule):
    text, reads = READS[rule]
    folder = site(text)
    assert check_site(opa_binary, folder).reads == reads
    bundle = build_site(opa_binary, folder, KEY)
    assert manifest_of(bundle) == {
        "revision": bundle.revision,
        "clock": reads.clock,
        "arguments": reads.arguments,
        "libraries": reads.libraries,
    }


def rule_about(conditions, element='"action": a.name', more=""):
    return f"""package site

deny contains {{{element}, "code": "limit", "message": "No."}} if {{
	some a in data.lictor.actions
	{conditions}
	a.arguments.limit > 100
}}
{more}"""


def only(names=None, methods=None, tags=()):
    return [{"names": names, "methods": methods, "tags": list(tags)}]


CONCERNS = {
    "a name": (rule_about('a.name == "pay"'), only(["pay"])),
    "a name on the left": (rule_about('"pay" == a.name'), only(["pay"])),
    "a name, unified": (rule_about('a.name = "pay"'), only(["pay"])),
    "one of several names": (rule_about('a.name in {"send", "pay"}'), only(["pay", "send"])),
    "two conditions": (rule_about('a.name in ["send", "pay"]\n\ta.name == "pay"'), only(["pay"])),
    "a tag": (rule_about('"money" in a.tags'), only(tags=["money"])),
    "a method": (rule_about('a.method == "tools/call"'), only(methods=["tools/call"])),
    "the whole action": (rule_about('a.name == "pay"', '"action": a'), only(["pay"])),
    "a name in the element": (rule_about("a.name", '"action": "pay"'), only(["pay"])),
    "a part in the element": (
        rule_about("a.name", '"action": {"name": "pay", "tags": ["money"]}'), only(["pay"], tags=["money"]),
    ),
    "two rules": (
        "package site\n\nimport data.lictor.actions as every_action\n" + rule_about('a.name == "pay"', more="""
deny contains {"action": b, "code": "to", "message": "No."} if {
	some b in every_action
	b.name == "send"
	b.arguments.to == "x"
}
""").removeprefix("package site\n"), only(["pay"]) + only(["send"]),
    ),
    "a helper that reads the arguments": (
        rule_about('a.name == "pay"\n\tlarge(a)', more="\nlarge(b) if b.arguments.amount > 1\n"), only(["pay"]),
    ),
    "a message from a rule": (
        rule_about('a.name == "pay"', more='\ntext := "No."\n').replace('"No."}', "text}"), only(["pay"]),
    ),
    # What is not understood concerns everything.
    "no name": (rule_about("a.name"), None),
    "another name than one": (rule_about('a.name != "pay"'), None),
    "a negated name": (rule_about('not a.name == "pay"'), None),
    "a pattern": (rule_about('glob.match("pay*", [], a.name)'), None),
    "a name within a comprehension": (rule_about('count([1 | a.name == "pay"]) == 1'), None),
    "another action's name": (rule_about('some b in data.lictor.actions\n\tb.name == "pay"'), None),
    "a tag of something else": (
        rule_about('some o in [{"name": a.name, "tags": ["t"]}]\n\t"t" in o.tags', '"action": o.name'), None,
    ),
    "a part without a name": (rule_about("a.name", '"action": {"annotations": {"readOnlyHint": true}}'), None),
    "a message that may be no text": (
        rule_about('a.name == "pay"').replace('"No."}', "a.arguments.text}"), None,
    ),
    "one rule of two": (
        rule_about('a.name == "pay"', more=rule_about("a.name").removeprefix("package site\n").replace("limit", "l")), None,
    ),
    "libraries that arguments hide": (
        rule_about('a.name == "pay"', more="""
hidden contains "lib-a" if {
	some a in data.lictor.actions
	a.arguments.x == 1
}
"""), None,
    ),
}  # fmt: skip


@pytest.mark.parametrize("rule", CONCERNS)
def test_actions_whose_arguments_concern_a_rule_are_found(opa_binary, site, rule):
    text, concerns = CONCERNS[rule]
    assert manifest_of(build_site(opa_binary, site(text), KEY)).get("concerns") == concerns


def test_what_a_helper_package_reads_counts(opa_binary, site):
    site(deny("data.site.hours.late"))
    folder = site("package site.hours\n\nlate if time.now_ns() > 0\n", "hours.rego")
    assert check_site(opa_binary, folder).reads == Reads(clock=True)


def test_the_worked_example_reads_the_clock_and_libraries(opa_binary):
    folder = product_folder() / "site"
    assert check_site(opa_binary, folder).reads == Reads(clock=True, libraries=True)
    assert build_site(opa_binary, folder, KEY).name == "site"


def test_a_revision_is_of_the_rules_and_nothing_else(opa_binary, site):
    one = build_site(opa_binary, site(deny("true")), KEY)
    again = build_site(opa_binary, site(deny("true")), SigningKey.generate("policy"))
    other = build_site(opa_binary, site(deny("1 == 1")), KEY)
    assert one.revision == again.revision != other.revision
    renamed = build_site(opa_binary, site(deny("true"), "other.rego"), KEY)
    assert renamed.revision not in (one.revision, other.revision)


def test_the_products_own_rules_pass_and_say_their_revision(opa_binary):
    bundle = build_policy(opa_binary, KEY)
    files = unpack(bundle.content)
    assert json.loads(files["/data.json"]) == {
        "lictor": {"manifest": {"revision": bundle.revision, "decodes_records": True}}
    }
    assert json.loads(files["/.manifest"])["roots"] == ["lictor", "system/authz", "system/log"]
    assert "/lictor/lictor.rego" in files
    assert not any("_test" in name for name in files)
