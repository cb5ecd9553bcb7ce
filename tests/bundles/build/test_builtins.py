"""The builtins that site rules may call stay within OPA, whatever they are given."""

import contextlib
import json
import socketserver
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from bundles.build.builtins import ALLOWED, CLOCK, explain_refusal, read_declarations
from bundles.exceptions import OPAFailedError


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


def call(opa, name, arguments):
    builtin = read_declarations(opa)[name]
    infix = builtin.get("infix")
    written = [json.dumps(one) for one in arguments]
    term = (
        f" {infix} ".join(written) if infix and infix != "in" else f"{name}({', '.join(written)})"
    )
    if infix == "in":
        term = f"{written[-2]} in {written[-1]}"
    with contextlib.suppress(OPAFailedError):  # it may not take this type
        opa.run("eval", "--format=json", f"x := [1 | {term}]", timeout=30)


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
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda one: call(opa_binary, *one), tried))
    assert len(tried) > 500
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
    call(opa_binary, name, json.loads(json.dumps(arguments).replace("URL", url)))
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
