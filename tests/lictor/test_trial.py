"""`lictor decide --site`: rules that are not signed, on the data that is published."""

import json
import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.anyio

RULE = """package site

deny contains {"action": action.name, "code": "large", "message": "Too large."} if {
	some action in data.lictor.actions
	action.arguments.amount > 100
	action.annotations.destructiveHint
	input.context == {"server": "bank", "transport": "stdio"}
}

hidden contains uid if {
	some uid in data.lictor.granted_libraries
	"draft" in data.lictor.library(uid).tags
}

deny contains {"action": {"method": "resources/read", "version": "2"}, "code": "old", "message": "Old."}
"""


async def decide(deployment, *arguments, bearer=""):
    import asyncio

    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "lictor", "decide", f"--state={deployment.settings.state}",
        f"--bundles-url={deployment.serving.url}", "--format=json", *map(str, arguments),
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=dict(os.environ),
    )  # fmt: skip
    out, err = await process.communicate(bearer.encode())
    return process.returncode, json.loads(out) if out else err.decode()


async def test_trial_rules_decide_on_published_data(deployment, tmp_path):
    site = tmp_path / "candidate"
    site.mkdir()
    (site / "rules.rego").write_text(RULE)
    await deployment.add_user("ada")
    bearer = await deployment.create_token("ada", libraries=["lib-a"])
    await deployment.settle()

    pay = {
        "name": "pay", "arguments": {"amount": 500}, "annotations": {"destructiveHint": True},
        "server": "bank", "transport": "stdio",
    }  # fmt: skip
    (tmp_path / "pay.json").write_text(json.dumps(pay))
    code, decision = await decide(
        deployment, "--site", site, "--action", tmp_path / "pay.json", bearer=bearer
    )
    assert (code, decision["reasons"]) == (3, ["site:large", "site_rule"])
    code, decision = await decide(
        deployment,
        "--site",
        site,
        "--action",
        tmp_path / "pay.json",
        "--arguments",
        '{"amount": 5}',
        bearer=bearer,
    )
    assert (code, decision["libraries"]) == (0, ["lib-a"])
    read = ["--method=resources/read", "--uri=data://x", "--tool-version=2"]
    code, decision = await decide(deployment, "--site", site, *read, bearer=bearer)
    assert (code, decision["message"]) == (3, "Old.")
    # Without `--site` the rules in force decide, and they are not touched.
    code, _ = await decide(deployment, *read, bearer=bearer)
    assert code == 0


async def test_rules_that_would_not_be_signed_are_not_tried(deployment, tmp_path):
    (tmp_path / "rules.rego").write_text("package site\n\nallow if true\n")
    code, said = await decide(deployment, "--site", tmp_path, "--tool=x")
    assert code == 1
    assert "rules.rego:3:1: neither deny nor hidden" in said


async def test_trial_without_lictor_serve_is_refused(deployment, tmp_path):
    (tmp_path / "rules.rego").write_text("package site\n")
    url = deployment.serving.url
    deployment.serving = type("Gone", (), {"url": "http://127.0.0.1:9"})
    code, said = await decide(deployment, "--site", tmp_path, "--tool=x")
    deployment.serving = type("Back", (), {"url": url})
    assert code == 1
    assert "Is lictor serve running?" in said
