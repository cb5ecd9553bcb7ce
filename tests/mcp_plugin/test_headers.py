"""The Authorization header, as it comes over the wire and as it is read."""

import asyncio
import json
from urllib.parse import urlsplit

import pytest

from mcp_plugin.request import extract

INVALID = "Invalid MCP token."


@pytest.mark.parametrize(
    ("values", "outcome", "bearer"),
    [
        ([], "none", None),
        ([b"Bearer abc"], "bearer", "abc"),
        ([b"bEARER abc"], "bearer", "abc"),
        ([b"Bearer   abc"], "bearer", "abc"),
        ([b"Bearer a b"], "bearer", "a b"),
        ([b"Bearer a\nb"], "bearer", "a\nb"),
        ([b"Bearer \xff"], "bearer", "�"),
        ([b"Bearer"], "bearer", ""),
        ([b""], "malformed", ""),
        ([b"abc"], "malformed", ""),
        ([b"Basic abc"], "malformed", ""),
        ([b"Bearer\tabc"], "malformed", ""),
        ([b"Bearer abc", b"Bearer abc"], "repeated", ""),
        ([b"Bearer abc", b""], "repeated", ""),
    ],
)
def test_a_header_is_read_strictly(values, outcome, bearer):
    headers = [(b"host", b"x"), *((b"authorization", value) for value in values)]

    assert extract(headers) == (outcome, bearer)


async def raw_call(url, lines, *, tool="search"):
    """Call a tool over a socket, with header lines that no client would send."""
    address = urlsplit(url)
    message = {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "tools/call",
        "params": {"name": tool, "arguments": {}},
    }
    body = json.dumps(message).encode()
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    head = [
        f"POST {address.path} HTTP/1.1".encode(),
        b"Host: " + address.netloc.encode(),
        b"Content-Type: application/json",
        b"Accept: application/json, text/event-stream",
        b"MCP-Protocol-Version: 2025-06-18",
        b"Connection: close",
        b"Content-Length: %d" % len(body),
        *lines,
    ]
    try:
        writer.write(b"\r\n".join(head) + b"\r\n\r\n" + body)
        await writer.drain()
        answer = await reader.read()
    except ConnectionError:
        return 0, ""
    finally:
        writer.close()
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), body.decode()


@pytest.fixture
async def plain(serve):
    return await serve(http={"json_response": True, "stateless_http": True})


def text_of(body):
    result = json.loads(body)["result"]
    return result["isError"], result["content"][0]["text"]


@pytest.mark.anyio
async def test_two_authorization_headers_are_no_bearer_even_when_both_are_good(plain, ada):
    line = b"Authorization: Bearer " + ada.encode()

    assert (await raw_call(plain.url, [line]))[0] == 200
    for lines in ([line, line], [line, b"authorization: x"], [b"AUTHORIZATION:", line]):
        _, body = await raw_call(plain.url, lines)
        assert text_of(body) == (True, INVALID)
    assert plain.failures() == {"invalid_token": 3}


@pytest.mark.anyio
async def test_a_bearer_that_is_no_token_s_shape_is_refused(plain, ada):
    good = ada.encode()
    for value in (
        b"Bearer " + good + b" " + good,
        b"Bearer " + good + b",Bearer " + good,
        b"Bearer \x80" + good,
        b"Bearer " + b"a" * 9000,
        b"Token " + good,
        good,
        b"",
    ):
        _, body = await raw_call(plain.url, [b"Authorization: " + value])
        assert text_of(body) == (True, INVALID), value[:40]


@pytest.mark.anyio
async def test_a_bearer_with_a_newline_or_of_ten_megabytes_reaches_no_tool(plain, ada):
    good = ada.encode()
    # What stands after the newline is a header by itself, or nothing that HTTP knows.
    status, body = await raw_call(plain.url, [b"Authorization: Bearer x\r\n " + good])
    assert status == 400 or text_of(body) == (True, INVALID)
    status, body = await raw_call(plain.url, [b"Authorization: Bearer " + good + b"\nx"])
    assert status == 400 or text_of(body) == (True, INVALID)

    status, body = await raw_call(plain.url, [b"Authorization: Bearer " + b"a" * 10_000_000])
    assert status in (0, 400, 431) or text_of(body) == (True, INVALID)
    assert (await raw_call(plain.url, [], tool="get_health"))[0] == 200
