"""The Authorization header, as it comes over the wire and as it is read."""

import asyncio
import json
import logging
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_plugin.http.request import extract

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
def test_header_is_read_strictly(values, outcome, bearer):
    headers = [(b"host", b"x"), *((b"authorization", value) for value in values)]

    assert extract(headers) == (outcome, bearer)


@pytest.mark.parametrize(
    "query",
    [
        b"access_token=abc",
        b"access_token=",
        b"access_token",
        b"a=b&access_token=abc",
        b"a=b;access_token=abc",
        b"access%5Ftoken=abc",
        b"ACCESS_TOKEN=abc",
        b"+access_token+=abc",
        b"a=b&&=&%ff=\xff&access_token=abc",
    ],
)
@pytest.mark.parametrize("headers", [[], [(b"authorization", b"Bearer abc")]])
def test_bearer_in_the_query_counts_as_none_despite_a_header(query, headers):
    """RFC 6750 §2.3 describes it, and §5.3 advises against it."""
    assert extract(headers, query) == ("query", "")


@pytest.mark.parametrize("query", [b"", b"token_hint=a", b"x=access_token", b"xaccess_token=a"])
def test_any_other_query_is_left_alone(query):
    assert extract([(b"authorization", b"Bearer abc")], query) == ("bearer", "abc")
    assert extract([], query) == ("none", None)


@given(
    st.lists(st.tuples(st.sampled_from([b"authorization", b"Authorization", b"x"]), st.binary())),
    st.binary(),
)
def test_headers_and_queries_of_any_bytes_are_read(headers, query):
    outcome, bearer = extract(headers, query)
    if outcome == "bearer":
        assert bearer.isascii() or "\ufffd" in bearer
    else:
        assert bearer == (None if outcome == "none" else "")


async def raw_call(url, lines, *, tool="search", query=""):
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
        f"POST {address.path}{query} HTTP/1.1".encode(),
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
async def test_two_authorization_headers_are_no_bearer(plain, ada):
    line = b"Authorization: Bearer " + ada.encode()

    assert (await raw_call(plain.url, [line]))[0] == 200
    for lines in ([line, line], [line, b"authorization: x"], [b"AUTHORIZATION:", line]):
        _, body = await raw_call(plain.url, lines)
        assert text_of(body) == (True, INVALID)
    assert plain.failures() == {"invalid_token": 3}


@pytest.mark.anyio
async def test_malformed_bearer_is_refused(plain, ada):
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
async def test_bearer_with_a_newline_or_of_ten_mb_reaches_no_tool(plain, ada):
    good = ada.encode()
    # What stands after the newline is a header by itself, or nothing that HTTP knows.
    status, body = await raw_call(plain.url, [b"Authorization: Bearer x\r\n " + good])
    assert status == 400 or text_of(body) == (True, INVALID)
    status, body = await raw_call(plain.url, [b"Authorization: Bearer " + good + b"\nx"])
    assert status == 400 or text_of(body) == (True, INVALID)

    status, body = await raw_call(plain.url, [b"Authorization: Bearer " + b"a" * 10_000_000])
    assert status in (0, 400, 431) or text_of(body) == (True, INVALID)
    assert (await raw_call(plain.url, [], tool="get_health"))[0] == 200


@pytest.mark.anyio
async def test_scheme_may_be_spelt_in_any_case(plain, ada):
    for scheme in (b"Bearer", b"bearer", b"BEARER", b"bEaReR"):
        status, body = await raw_call(
            plain.url, [b"authorization: " + scheme + b" " + ada.encode()]
        )
        assert (status, text_of(body)[0]) == (200, False)


@pytest.mark.anyio
async def test_bearer_in_the_query_string_is_refused_and_never_logged(plain, ada, caplog):
    caplog.set_level(logging.DEBUG)
    line = b"Authorization: Bearer " + ada.encode()
    for query in (f"?access_token={ada}", f"?x=1&access%5Ftoken={ada}"):
        for lines in ([], [line]):
            _, body = await raw_call(plain.url, lines, query=query)
            assert text_of(body) == (True, INVALID)
            assert ada not in body
    assert plain.failures() == {"invalid_token": 4}

    lines = [one for one in caplog.messages if one.startswith("mcp_auth.extract")]
    assert len(lines) == 4
    assert all("outcome=query len=0 path='/mcp' " in one for one in lines)
    # What logs the request before it comes here, such as uvicorn's access log, is not ours to stop.
    assert ada[4:16] not in caplog.text


@pytest.mark.anyio
async def test_other_query_parameters_are_harmless_and_not_logged(plain, ada, caplog):
    caplog.set_level(logging.DEBUG)
    line = b"Authorization: Bearer " + ada.encode()
    status, body = await raw_call(plain.url, [line], query="?tenant=blue-42")
    assert (status, text_of(body)[0]) == (200, False)
    assert "blue-42" not in caplog.text
