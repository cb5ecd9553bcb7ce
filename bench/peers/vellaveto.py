"""What Vellaveto's proxy lets through to a server over stdio: `vellaveto.py PROXY`.

It stands in front of a server as a process of its own, with a file of rules, so that it is probed
from outside. Run it in an environment that has FastMCP; PROXY comes from
`cargo install vellaveto-proxy`.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from probe import _said, server

RULES = """
[[policies]]
name = "search"
tool_pattern = "search"
function_pattern = "*"
priority = 100
id = "search:*:allow"
policy_type = "Allow"

[[policies]]
name = "mounted search"
tool_pattern = "c_search"
function_pattern = "*"
priority = 100
id = "c_search:*:allow"
policy_type = "Allow"

[[policies]]
name = "nothing about secrets"
tool_pattern = "*"
function_pattern = "*"
priority = 200
id = "*:*:topic"

[policies.policy_type.Conditional.conditions]
on_no_match = "continue"
[[policies.policy_type.Conditional.conditions.parameter_constraints]]
param = "topic"
op = "eq"
value = "secret"
on_match = "deny"
on_missing = "skip"

[[policies]]
name = "open shelf"
tool_pattern = "resources"
function_pattern = "read"
priority = 100
id = "resources:read:allow"

[policies.policy_type.Conditional.conditions]
on_no_match = "continue"
[[policies.policy_type.Conditional.conditions.parameter_constraints]]
param = "uri"
op = "eq"
value = "data://open"
on_match = "allow"
on_missing = "skip"

[[policies]]
name = "nothing else"
tool_pattern = "*"
function_pattern = "*"
priority = 0
id = "*:*:deny"
policy_type = "Deny"
"""

HELLO = {
    "protocolVersion": "2025-06-18",
    "capabilities": {},
    "clientInfo": {"name": "p", "version": "1"},
}
CALL = "tools/call"
COMPLETED = {
    "ref": {"type": "ref/prompt", "name": "shut"},
    "argument": {"name": "x", "value": ""},
}
TRIED = [
    ("call search", CALL, {"name": "search", "arguments": {}}),
    ("call delete", CALL, {"name": "delete", "arguments": {}}),
    ("call search(topic=secret)", CALL, {"name": "search", "arguments": {"topic": "secret"}}),
    ("call c_search (mounted)", CALL, {"name": "c_search", "arguments": {}}),
    ("call c_delete (mounted)", CALL, {"name": "c_delete", "arguments": {}}),
    ("list tools", "tools/list", {}),
    ("list resources", "resources/list", {}),
    ("list templates", "resources/templates/list", {}),
    ("list prompts", "prompts/list", {}),
    ("read data://open", "resources/read", {"uri": "data://open"}),
    ("read data://shut", "resources/read", {"uri": "data://shut"}),
    ("read data://of/x (template)", "resources/read", {"uri": "data://of/x"}),
    ("get prompt ask", "prompts/get", {"name": "ask"}),
    ("get prompt shut", "prompts/get", {"name": "shut"}),
    ("complete prompt shut", "completion/complete", COMPLETED),
    ("method x/unknown", "x/unknown", {}),
]  # fmt: skip


def main(proxy):
    with tempfile.TemporaryDirectory() as folder:
        rules = Path(folder) / "rules.toml"
        rules.write_text(RULES)
        # `env`, as it follows links, and an environment's Python is one.
        command = [proxy, "--config", rules, "--", "env", sys.executable, __file__, "--serve"]
        with subprocess.Popen(
            command, text=True, cwd=folder,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        ) as process:  # fmt: skip

            def ask(id_, method, params):
                message = {"jsonrpc": "2.0", "id": id_, "method": method, "params": params}
                process.stdin.write(json.dumps(message) + "\n")
                process.stdin.flush()
                for line in process.stdout:
                    if json.loads(line).get("id") == id_:
                        return _said(json.loads(line))
                return "ended"

            try:
                ask(0, "initialize", HELLO)
                ready = {"jsonrpc": "2.0", "method": "notifications/initialized"}
                process.stdin.write(json.dumps(ready) + "\n")
                for n, (what, method, params) in enumerate(TRIED, 1):
                    print(f"  {what}: {ask(n, method, params)}", flush=True)
            finally:
                process.kill()


if __name__ == "__main__":
    if sys.argv[1:] == ["--serve"]:
        server("vellaveto", auth=False).run(show_banner=False)
    else:
        main(sys.argv[1])
