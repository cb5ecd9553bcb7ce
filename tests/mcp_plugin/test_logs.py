"""What is written down about a call, and what never is."""

import logging

import pytest
from prometheus_client import generate_latest

pytestmark = pytest.mark.anyio


@pytest.fixture
def log(caplog):
    caplog.set_level(logging.DEBUG)
    return lambda: [
        record.getMessage() for record in caplog.records if record.name.startswith("mcp_plugin")
    ]


async def test_successful_call_logs_the_legacy_events(serve, ada, log):
    served = await serve()
    async with served.client(ada) as client:
        await client.call_tool("delete")

    # The client requests the list beside the call.
    first = log().index("mcp_auth.on_call_tool tool='delete' require_auth=True")
    lines = log()[first : first + 4]
    assert lines[1].startswith(
        f"mcp_auth.extract outcome=bearer len={len(ada)} path='/mcp' header_n"
    )
    assert "'authorization'" in lines[1]
    assert lines[2].startswith("mcp_auth.resolved tool='delete' principal='mcptoken:lct_…")
    assert lines[2].endswith("lib_count=2")
    assert lines[3] == "mcp_auth.call_next_ok tool='delete' result_type=ToolResult"


async def test_failing_tool_logs_its_traceback(serve, ada, log, caplog):
    served = await serve()

    await served.refusal("crash", bearer=ada)

    failed = next(r for r in caplog.records if "call_next_failed" in r.getMessage())
    assert failed.getMessage() == "mcp_auth.call_next_failed tool='crash'"
    assert failed.levelno == logging.ERROR
    assert "a fault of the tool's own" in caplog.text
    assert failed.exc_info


async def test_arguments_that_do_not_fit_are_not_quoted(serve, ada, log, caplog):
    served = await serve()

    await served.refusal("search", {"query": {"password": "hunter2"}}, bearer=ada)

    assert "mcp_auth.call_next_failed tool='search'" in log()
    failed = next(r for r in caplog.records if "call_next_failed" in r.getMessage())
    assert not failed.exc_info


async def test_denial_log_is_one_line_even_with_newlines_in_a_name(serve, log):
    served = await serve()

    await served.refusal("x\nmcp_auth.call_next_ok tool=delete")

    assert not any("\n" in line for line in log())
    assert log()[-1].startswith(r"mcp_auth.denied tool='x\nmcp_auth.call_next_ok tool=delete' ")
    assert log()[-1].endswith("reason=missing_token")


async def test_no_part_of_a_bearer_is_logged_or_counted(serve, deployment, ada, caplog):
    caplog.set_level(logging.DEBUG)
    # These log what they themselves send; here they are the caller.
    for name in ("httpcore2", "httpx2", "mcp.client", "asyncio"):
        caplog.set_level(logging.WARNING, name)
    _, jwt = await deployment.create_team("Docs", owner="ada", workspaces=["w"])
    await deployment.settle()
    caplog.clear()
    said = []
    for settings in ({}, {"require_auth": False}):
        served = await serve(**settings)
        for bearer in (ada, ada[:-1] + "~", jwt, jwt[:-4] + "AAAA", "short-lived-secret"):
            async with served.client(bearer) as client:
                said += [
                    str(await client.call_tool(tool, raise_on_error=False))
                    for tool in ("delete", "search", "crash", "missing")
                ]
        said.append(generate_latest(served.metrics).decode())

    written = caplog.text + "".join(said)
    for bearer in (ada[4:], "short-lived-secret", *jwt.split(".")):
        pieces = {bearer[i : i + 12] for i in range(0, len(bearer) - 11, 4)}
        assert not [piece for piece in pieces if piece in written]
