"""The builtins that site rules may call stay within OPA, whatever they are given."""

import json
import socketserver
import threading

import pytest

from bundles.build.builtins import ALLOWED, CLOCK, explain_refusal, read_declarations


@pytest.fixture
def listener():
    """A server that counts who connects."""
    seen = []

    class CountingHandler(socketserver.BaseRequestHandler):
        def handle(self):
            seen.append(self.request.recv(65536))

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), CountingHandler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_address[1]}/x"
        yield url, seen
        server.shutdown()


def call(opa, *calls):
    """Call builtins, each with its arguments, and return for each whether it took them."""
    terms = []
    for number, (name, arguments) in enumerate(calls):
        infix = read_declarations(opa)[name].get("infix")
        # From the input, whose types OPA does not know: it refuses none before it runs.
        written = [f"input[{number}][{n}]" for n in range(len(arguments))]
        if infix == "in":
            terms.append(f"{written[-2]} in {written[-1]}")
        elif infix == ":=":
            terms.append(f"y := {written[-1]}")
        elif infix:
            terms.append(f" {infix} ".join(written))
        else:
            terms.append(f"{name}({', '.join(written)})")
    given = json.dumps([arguments for _, arguments in calls]).encode()
    query = "x := [" + ", ".join(f"[1 | {term}]" for term in terms) + "]"
    done = opa.run("eval", "--format=json", "--stdin-input", query, stdin=given, timeout=30)
    return [bool(one) for one in json.loads(done)["result"][0]["bindings"]["x"]]


def arguments_of(kind, url):
    schema = {"$ref": url, "url": url, "method": "GET", "$schema": url, "type": "object"}
    match kind["type"]:
        case "number":
            return 1
        case "boolean":
            return True
        case "object":
            return schema
        case "array" | "set":
            return [url]
        case "any":
            kinds = {one["type"] for one in kind.get("of", [])}
            return url if "string" in kinds and "object" not in kinds else schema
        case _:
            return url


def test_no_allowed_builtin_opens_a_connection(opa_binary, listener):
    url, seen = listener
    file = json.dumps({"$ref": "file:///etc/hostname"})
    tried = [
        (name, [arguments_of(one, given) for one in read_declarations(opa_binary)[name]["decl"].get("args", [])])
        for name in sorted(ALLOWED & read_declarations(opa_binary).keys())
        for given in (url, json.dumps({"$ref": url}), file)
    ]  # fmt: skip
    took = call(opa_binary, *tried)
    assert len(took) == len(tried) > 500
    assert took.count(True) > 200
    assert seen == []


REFERRING = {"$ref": "URL", "type": "object"}


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("http.send", [{"url": "URL", "method": "GET"}]),
        ("json.match_schema", [{}, REFERRING]),
        ("json.verify_schema", [REFERRING]),
    ],
)
def test_refused_builtins_are_found_out_in_the_same_way(opa_binary, listener, name, arguments):
    url, seen = listener
    call(opa_binary, (name, json.loads(json.dumps(arguments).replace("URL", url))))
    assert seen


def test_whatever_the_time_or_chance_changes_is_known_as_such(opa_binary):
    changing = {
        name for name, one in read_declarations(opa_binary).items() if one.get("nondeterministic")
    }
    assert changing & ALLOWED <= CLOCK


def test_a_builtin_of_a_later_opa_is_refused_with_a_reason():
    assert "new.builtin" not in ALLOWED
    assert explain_refusal("new.builtin").startswith(
        "lictor does not allow new.builtin in site rules: "
    )
