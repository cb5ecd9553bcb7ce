"""What a peer's middleware lets through, in an environment that has it: `probe.py NAME`.

A server with two of everything is guarded so that a caller may use one of each, and is called as a
client would, over HTTP in protocol 2025-06-18, which every FastMCP since 2.14 speaks. Prints one
line for each thing tried. `run.sh` runs it for every peer.
"""

import contextlib
import json
import logging
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor

from guards import GRANTED, GUARDS, decorator

BEARER = "good-bearer"
WAITS = 1.0
"""Seconds that the tool `wait` takes."""
LISTED = {
    "tools": "name",
    "resources": "uri",
    "resourceTemplates": "uriTemplate",
    "prompts": "name",
}


def server(name, *middleware, auth=True):
    """Two of everything; a tool and a resource are both named `search`."""
    from fastmcp import FastMCP
    from fastmcp.server.auth.providers.jwt import StaticTokenVerifier

    tokens = {BEARER: {"client_id": "ada", "sub": "ada", "scopes": []}}
    mcp = FastMCP("probe", auth=StaticTokenVerifier(tokens=tokens) if auth else None)
    child = FastMCP("child")
    guarded = decorator(name)
    for one in (mcp, child):
        one.tool(guarded(lambda topic="": _search(topic)), name="search")
        one.tool(guarded(lambda: "deleted"), name="delete")
    mcp.tool(guarded(lambda seconds=WAITS: _wait(seconds)), name="wait")
    mcp.mount(child, "c")
    mcp.resource("data://open", name="open_shelf")(guarded(lambda: "open"))
    mcp.resource("data://shut", name="shut_shelf")(guarded(lambda: "shut"))
    mcp.resource("data://search", name="search")(guarded(lambda: "a resource of the tool's name"))
    mcp.resource("data://of/{name}", name="any_shelf")(guarded(lambda name: name))
    mcp.prompt(guarded(lambda: "asked"), name="ask")
    mcp.prompt(guarded(lambda: "shut"), name="shut")
    if hasattr(mcp, "completion"):
        mcp.completion(lambda *_: ["completed"])
        _add_unknown(mcp)
    for one in middleware:
        mcp.add_middleware(one)
    return mcp


def _search(topic=""):
    return f"found {topic}".strip()


def _wait(seconds):
    time.sleep(seconds)
    return "waited"


def _add_unknown(mcp):
    import mcp_types

    async def run(_ctx, _params):
        return mcp_types.EmptyResult()

    mcp._mcp_server.add_request_handler("x/unknown", mcp_types.PaginatedRequestParams, run)


@contextlib.contextmanager
def serving(mcp):
    import uvicorn

    config = uvicorn.Config(
        mcp.http_app(stateless_http=True, json_response=True), port=0, log_level="critical"
    )
    running = uvicorn.Server(config)
    thread = threading.Thread(target=running.run)
    thread.start()
    while not (running.started or not thread.is_alive()):
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{running.servers[0].sockets[0].getsockname()[1]}/mcp"
    finally:
        running.should_exit = True
        thread.join()


def ask(url, method, bearer=BEARER, **params):
    """The result, or what was said instead of one."""
    message = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
    headers = {
        "Content-Type": "application/json",
        "Accept": "application/json, text/event-stream",
        "MCP-Protocol-Version": "2025-06-18",
        **({"Authorization": f"Bearer {bearer}"} if bearer else {}),
    }
    request = urllib.request.Request(url, json.dumps(message).encode(), headers)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return _said(json.load(answer))
    except urllib.error.HTTPError as error:
        return f"HTTP {error.code} {error.headers.get('www-authenticate', '')[:40]}"


def _said(answer):
    if "error" in answer:
        return f"refused: {answer['error']['message'][:70]}"
    result = answer["result"]
    if result.get("isError"):
        return f"refused: {result['content'][0]['text'][:70]}"
    for kind, key in LISTED.items():
        if kind in result:
            return "lists " + " ".join(sorted(one[key] for one in result[kind]))
    content = result.get("content")
    return f"runs: {content[0]['text']}" if content else "runs"


def tried(url):
    """What comes of each request."""
    completion = {"argument": {"name": "x", "value": ""}}
    prompt, template = {"type": "ref/prompt"}, {"type": "ref/resource", "uri": "data://of/{name}"}
    yield "call search", ask(url, "tools/call", name="search", arguments={})
    yield "call delete", ask(url, "tools/call", name="delete", arguments={})
    yield (
        "call search(topic=secret)",
        ask(url, "tools/call", name="search", arguments={"topic": "secret"}),
    )
    yield "call c_search (mounted)", ask(url, "tools/call", name="c_search", arguments={})
    yield "call c_delete (mounted)", ask(url, "tools/call", name="c_delete", arguments={})
    yield "list tools", ask(url, "tools/list")
    yield "list resources", ask(url, "resources/list")
    yield "list templates", ask(url, "resources/templates/list")
    yield "list prompts", ask(url, "prompts/list")
    yield "read data://open", ask(url, "resources/read", uri="data://open")
    yield "read data://shut", ask(url, "resources/read", uri="data://shut")
    yield "read data://search", ask(url, "resources/read", uri="data://search")
    yield "read data://of/x (template)", ask(url, "resources/read", uri="data://of/x")
    yield "get prompt ask", ask(url, "prompts/get", name="ask")
    yield "get prompt shut", ask(url, "prompts/get", name="shut")
    yield (
        "complete prompt shut",
        ask(url, "completion/complete", ref={**prompt, "name": "shut"}, **completion),
    )
    yield "complete template", ask(url, "completion/complete", ref=template, **completion)
    yield "method x/unknown", ask(url, "x/unknown")
    yield "call search, no bearer", ask(url, "tools/call", bearer=None, name="search", arguments={})


def renaming():
    """Middleware, added after the guard, that calls another tool than the one asked for."""
    from fastmcp.server.middleware import Middleware

    class Renaming(Middleware):
        async def on_call_tool(self, context, call_next):
            message = context.message.model_copy(update={"name": "delete"})
            return await call_next(context.copy(message=message))

    return Renaming()


def over_stdio(name):
    """The answer to a call of `delete` over stdio."""
    hello = {
        "protocolVersion": "2025-06-18",
        "capabilities": {},
        "clientInfo": {"name": "p", "version": "1"},
    }
    lines = [
        {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": hello},
        {"jsonrpc": "2.0", "method": "notifications/initialized"},
        {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "delete"}},
    ]
    with subprocess.Popen(
        [sys.executable, __file__, name, "--stdio"], text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    ) as process:  # fmt: skip
        try:
            for line in lines:
                process.stdin.write(json.dumps(line) + "\n")
                process.stdin.flush()
            for line in process.stdout:
                if json.loads(line).get("id") == 1:
                    return _said(json.loads(line))
        finally:
            process.kill()
    return "ended"


def main(name, *options):
    guard = GUARDS[name]
    if options:
        server(name, guard(), auth=False).run(show_banner=False)
        return
    import fastmcp

    print(f"{name} on FastMCP {fastmcp.__version__}")
    said = []
    try:
        with serving(server(name, guard())) as url:
            for what, came in tried(url):
                print(f"  {what}: {came}")
            said = list(_records)
            GRANTED.discard("tools:search")
            print(
                "  call search, grant withdrawn:",
                ask(url, "tools/call", name="search", arguments={}),
            )
            GRANTED.add("tools:search")
            with ThreadPoolExecutor() as pool:
                waiting = pool.submit(ask, url, "tools/call", name="wait", arguments={})
                time.sleep(WAITS / 2)
                GRANTED.discard("tools:wait")
                print("  call wait, grant withdrawn meanwhile:", waiting.result())
            GRANTED.add("tools:wait")
        with serving(server(name, guard(), renaming())) as url:
            print(
                "  call search, renamed after:", ask(url, "tools/call", name="search", arguments={})
            )
        print("  call delete over stdio:", over_stdio(name))
        with serving(server(name, guard(gone=True))) as url:
            print("  call search, PDP gone:", ask(url, "tools/call", name="search", arguments={}))
            print("  list tools, PDP gone:", ask(url, "tools/list"))
    except ImportError as error:
        print(f"  does not import: {error}")
    # Three lines, and what shows that a resource's URI did not get as far as the query.
    for line in [*said[:3], *sorted({line for line in said if line.endswith(":None")})]:
        print("  log:", line)


_records = []


class _Keep(logging.Handler):
    def emit(self, record):
        if record.name.split(".")[0] in {
            "eunomia_mcp",
            "permit_fastmcp",
            "cerbos_middleware",
            "apparitor",
        }:
            _records.append(f"{record.levelname} {record.getMessage()[:160]}")


if __name__ == "__main__":
    logging.getLogger().addHandler(_Keep())
    for each in ("eunomia_mcp", "permit_fastmcp", "apparitor"):
        logging.getLogger(each).setLevel(logging.DEBUG)
    main(*sys.argv[1:])
