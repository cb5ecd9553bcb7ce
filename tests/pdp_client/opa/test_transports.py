"""One contract for both transports to OPA: against a real OPA, and against servers that misbehave."""

import asyncio
import datetime as dt
import ipaddress
import json
from contextlib import aclosing

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from support.faults import ALLOW, always, answer, faulty
from support.plain_opa import PlainOPA, make_dataset
from support.waiting import until

from pdp_client.bearer.opaque import digest
from pdp_client.exceptions import (
    ConfigurationError,
    OPAUnreachableError,
    PDPError,
    ResponseUnusableError,
)
from pdp_client.opa.transport import open_transport

pytestmark = pytest.mark.anyio

QUERY = {
    "credential": {"kind": "token", "digest": digest("alice")},
    "action": {"method": "tools/call", "name": "search", "tags": []},
}


@pytest.fixture(params=["unix", "tcp"])
def kind(request):
    return request.param


@pytest.fixture
async def transport(kind, plain_opa):
    """A transport of either kind to a real OPA that knows the table's dataset."""
    plain_opa.set_dataset(make_dataset())
    async with aclosing(open_transport(getattr(plain_opa, f"{kind}_url"))) as transport:
        yield transport


async def test_answer_is_the_rules_result(transport):
    result = await transport.query("decision", QUERY)
    assert result["allow"] is True
    assert result["libraries"] == ["lib-a", "lib-b"]


async def test_transport_queries_both_entrypoints(transport):
    actions = [{"method": "tools/call", "name": name, "tags": []} for name in ("delete", "search")]
    result = await transport.query(
        "visible", {"credential": QUERY["credential"], "actions": actions}
    )
    assert result["indices"] == [1]


async def test_transport_sends_text_unchanged(transport):
    name = 'x"] ; true # \u2028 \x00 \x7f 🙂 ../../data é'
    result = await transport.query(
        "decision", {**QUERY, "action": {"method": "tools/call", "name": name}}
    )
    assert result["message"] == f"Token does not have permission to call '{name}'."


async def test_transport_matches_concurrent_queries_to_responses(transport):
    async def query_number(number):
        action = {"method": "tools/call", "name": f"tool-{number}"}
        return (await transport.query("decision", {**QUERY, "action": action}))["message"]

    answers = await asyncio.gather(*map(query_number, range(200)))
    assert answers == [f"Token does not have permission to call 'tool-{n}'." for n in range(200)]


@pytest.mark.parametrize("odd", [float("nan"), float("inf"), {1, 2}, b"x", object()])
async def test_transport_never_sends_invalid_json(transport, odd):
    with pytest.raises(ResponseUnusableError, match="query is not JSON"):
        await transport.query(
            "decision", {**QUERY, "action": {"name": "search", "arguments": {"q": odd}}}
        )
    assert (await transport.query("decision", QUERY))["allow"] is True


async def test_transport_never_sends_too_deep_a_query(transport):
    deep = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(ResponseUnusableError):
        await transport.query("decision", {"credential": deep})


async def test_builtin_that_errors_makes_the_answer_unusable(transport, plain_opa):
    plain_opa.put_policy(
        "odd", "package lictor.caller\nreasons contains to_number(input.action.name)"
    )
    try:
        with pytest.raises(ResponseUnusableError, match="HTTP 500"):
            await transport.query("decision", QUERY)
    finally:
        plain_opa.request("DELETE", "/v1/policies/odd")
    assert (await transport.query("decision", QUERY))["allow"] is True


async def test_transport_stays_closed(transport):
    await transport.query("decision", QUERY)
    await transport.aclose()
    with pytest.raises(OPAUnreachableError):
        await transport.query("decision", QUERY)
    await transport.aclose()


async def test_transport_cancelled_query_leaves_nothing_behind(transport):
    asked = [asyncio.ensure_future(transport.query("decision", QUERY)) for _ in range(20)]
    await asyncio.sleep(0)
    for task in asked[::2]:
        task.cancel()
    await asyncio.gather(*asked, return_exceptions=True)
    other = {**QUERY, "action": {"method": "tools/call", "name": "delete"}}
    answers = await asyncio.gather(*[transport.query("decision", other) for _ in range(20)])
    assert {answer["reason"] for answer in answers} == {"tool_not_allowed"}


async def test_transport_recovers_after_opa_was_killed(kind, opa_binary, short_path):
    opa = PlainOPA(opa_binary, short_path).start()
    try:
        async with aclosing(open_transport(getattr(opa, f"{kind}_url"))) as transport:
            await transport.query("decision", QUERY)
            opa.kill()
            with pytest.raises(OPAUnreachableError):
                await transport.query("decision", QUERY)
            opa.start()

            async def back():
                try:
                    return await transport.query("decision", QUERY)
                except OPAUnreachableError:
                    return None

            assert (await until(back, "OPA responds again"))["allow"] is False
    finally:
        opa.kill()


# Servers that misbehave.


@pytest.fixture
async def meet(kind, short_path):
    """Query a server that runs the handler; return the server."""

    async def query_handler(handler, *, times=1, patience=10):
        async with (
            faulty(kind, handler, short_path) as server,
            aclosing(open_transport(server.url, token="s3cret")) as transport,
        ):
            for _ in range(times):
                server.result = None
                try:
                    async with asyncio.timeout(patience):
                        server.result = await transport.query("decision", QUERY)
                except (PDPError, TimeoutError) as error:
                    server.error = error
        return server

    return query_handler


UNUSABLE = {
    "a server error": answer({"result": ALLOW}, status="500 Internal Server Error"),
    "a refusal": answer({"result": ALLOW}, status="401 Unauthorized"),
    "another success": answer({"result": ALLOW}, status="201 Created"),
    "no content": b"HTTP/1.1 204 No Content\r\n\r\n",
    "an empty body": answer(b""),
    "no result": answer({}),
    "null": answer(b"null"),
    "a list": answer([{"result": ALLOW}]),
    "a text": answer(b'"result"'),
    "half a document": answer(b'{"result": {"allow": true'),
    "two documents": answer(b'{"result": 1} {"result": 2}'),
    "NaN": answer(b'{"result": NaN}'),
    "infinity": answer(b'{"result": [-Infinity]}'),
    "another encoding": answer('{"result": true}'.encode("utf-16")),
    "bytes that are no text": answer(b'{"result": "\xff"}'),
    "nesting without end": answer(b'{"result": ' + b"[" * 200_000),
    "a number without end": answer(b'{"result": ' + b"9" * 10_000 + b"}"),
    "a body past all bounds": answer(b'{"result": "' + b"x" * (17 << 20) + b'"}'),
}


@pytest.mark.parametrize("fault", UNUSABLE)
async def test_answer_that_is_not_200_with_a_result_is_unusable(meet, fault):
    server = await meet(always(UNUSABLE[fault]))
    assert server.result is None
    assert isinstance(server.error, ResponseUnusableError)
    assert len(server.requests) == 1


BROKEN = {
    "garbage": b"\x00\x01\x02 garbage \xff\r\n\r\n",
    "another protocol": b"SSH-2.0-OpenSSH_9.9\r\n",
    "a status line alone": b"HTTP/1.1 200 OK\r\n",
    "half a body": answer({"result": ALLOW})[:-20],
    "half a chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n50\r\n{",
    "a chunk that is none": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}",
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 13\r\n\r\n{}",
    "an upgrade": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
}


@pytest.mark.parametrize("fault", BROKEN)
async def test_transport_incomplete_http_is_an_error(meet, fault):
    server = await meet(always(BROKEN[fault]))
    assert server.result is None
    assert isinstance(server.error, OPAUnreachableError | ResponseUnusableError)
    assert len(server.requests) == 1


async def test_redirect_is_not_followed(meet, kind, short_path):
    (short_path / "other").mkdir()
    async with faulty("tcp", always(answer({"result": ALLOW})), short_path / "other") as other:
        for status in ("301 Moved", "302 Found", "307 Temporary", "308 Permanent"):
            moved = answer(b"", status=f"{status} Redirect", headers=[f"Location: {other.url}/"])
            server = await meet(always(moved))
            assert isinstance(server.error, ResponseUnusableError)
        assert other.connections == 0


async def test_transport_does_not_retry_on_a_new_connection(meet):
    async def closes(server, reader, _):
        await server.request(reader)

    server = await meet(closes)
    assert isinstance(server.error, OPAUnreachableError)
    assert server.connections == len(server.requests) == 1


async def test_server_that_never_answers_costs_the_callers_deadline(meet):
    async def hangs(server, reader, _):
        await server.request(reader)
        await asyncio.Event().wait()

    server = await meet(hangs, patience=0.05)
    assert isinstance(server.error, TimeoutError)
    assert len(server.requests) == 1


async def test_server_that_dribbles_costs_the_callers_deadline(meet):
    async def dribbles(server, reader, writer):
        await server.request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
        while True:
            writer.write(b" ")
            await writer.drain()
            await asyncio.sleep(0.005)

    server = await meet(dribbles, patience=0.1)
    assert isinstance(server.error, TimeoutError)


async def test_chunked_answer_is_read_whole(meet):
    body = json.dumps({"result": ALLOW}).encode()
    chunks = b"".join(b"%x\r\n%b\r\n" % (1, body[i : i + 1]) for i in range(len(body)))
    raw = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n"
    assert (await meet(always(raw))).result == ALLOW


async def test_transport_reuses_one_connection_with_token_and_path(meet):
    async def serves(server, reader, writer):
        while True:
            await server.request(reader)
            writer.write(answer({"result": len(server.requests)}))

    server = await meet(serves, times=5)
    assert server.result == 5
    assert server.connections == 1
    for line, fields, body in server.requests:
        assert line == "POST /v1/data/lictor/decision?strict-builtin-errors=true HTTP/1.1"
        assert fields["authorization"] == "Bearer s3cret"
        assert fields["content-type"] == "application/json"
        assert body == {"input": QUERY}


async def test_connection_that_was_closed_while_idle_is_replaced(meet):
    async def once_each(server, reader, writer):
        await server.request(reader)
        writer.write(answer({"result": server.connections}))

    server = await meet(once_each, times=4)
    assert server.result == 4


async def test_transport_replaces_a_closed_reused_connection_once(meet):
    async def answers_once(server, reader, writer):
        await server.request(reader)
        if server.connections in (1, 2):
            writer.write(answer({"result": server.connections}))
            await server.request(reader)

    server = await meet(answers_once, times=2)
    # The second question went out on the first connection, and again on another.
    assert server.result == 2
    assert server.connections == 2
    server = await meet(answers_once, times=3)
    # The third found the second connection closed, and its one new connection too.
    assert server.result is None
    assert isinstance(server.error, OPAUnreachableError)
    assert server.connections == 3


async def test_transport_does_not_retry_a_truncated_response(meet):
    async def breaks_off(server, reader, writer):
        await server.request(reader)
        writer.write(answer({"result": 1}))
        await server.request(reader)
        writer.write(answer({"result": 2})[:-3])

    server = await meet(breaks_off, times=2)
    assert server.result is None
    assert len(server.requests) == 2
    assert server.connections == 1


async def test_transport_discards_a_second_response_to_one_query(meet):
    honest, smuggled = answer({"result": "honest"}), answer({"result": "smuggled"})

    async def smuggles(server, reader, writer):
        await server.request(reader)
        writer.write(honest + smuggled.partition(b"{")[0])
        await server.request(reader)
        writer.write(b'{"result": "smuggled"}')

    server = await meet(smuggles, times=2)
    assert server.result in ("honest", None)


# URLs.


@pytest.mark.parametrize(
    "url",
    [
        "", "opa", "/run/opa.sock", "unix:", "unix://", "unix://host/opa.sock", "ftp://opa:8181",
        "http://", "http:///v1", "http://opa:8181/v1/data", "http://opa:8181?x=1", "http://u:p@opa",
        "https://opa:8181#x", "http://[::1", "unix:///run/opa.sock?x=1", "http://opa:99999", "http://opa:port",
    ],
)  # fmt: skip
def test_transport_unsupported_url_is_refused_unquoted(url):
    with pytest.raises(ConfigurationError) as caught:
        open_transport(url)
    assert "u:p" not in str(caught.value)


def test_client_certificate_needs_https():
    with pytest.raises(ConfigurationError):
        open_transport("unix:///run/opa.sock", client_cert=("a", "b"))
    with pytest.raises(ConfigurationError):
        open_transport("http://opa:8181", client_cert=("a", "b"))


@pytest.mark.parametrize("url", ["unix:///nowhere/opa.sock", "http://127.0.0.1:1"])
async def test_transport_without_a_server_is_unreachable(url):
    async with aclosing(open_transport(url)) as transport:
        with pytest.raises(OPAUnreachableError):
            await transport.query("decision", QUERY)


# TLS.


def _name(text):
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


class Authority:
    """A certificate authority made for a test."""

    def __init__(self, folder):
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._subject = _name("test authority")
        self.pem = folder / "ca.pem"
        certificate = self._sign(self._subject, self._key, ca=True, names=[])
        self.pem.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))

    def issue(self, text):
        """Certificate and key files for `localhost`."""
        key = ec.generate_private_key(ec.SECP256R1())
        names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        certificate = self._sign(_name(text), key, ca=False, names=names)
        paths = self._folder / f"{text}.pem", self._folder / f"{text}.key"
        paths[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        paths[1].write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        return tuple(map(str, paths))

    def _sign(self, subject, key, *, ca, names):
        now = dt.datetime.now(dt.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(hours=1))
            .not_valid_after(now + dt.timedelta(hours=1))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()),
                critical=False,
            )
            .add_extension(
                x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False
            )
        )
        if ca:
            usage = x509.KeyUsage(
                key_cert_sign=True, crl_sign=True, digital_signature=True,
                content_commitment=False, key_encipherment=False, data_encipherment=False,
                key_agreement=False, encipher_only=False, decipher_only=False,
            )  # fmt: skip
            builder = builder.add_extension(usage, critical=True)
        else:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return builder.sign(self._key, hashes.SHA256())


@pytest.fixture
def authority(tmp_path):
    return Authority(tmp_path)


@pytest.fixture
def tls_opa(opa_binary, short_path, authority):
    """Start an OPA behind TLS, with more options if need be."""
    started = []

    def start(*options):
        certificate, key = authority.issue("opa")
        tls = f"--tls-cert-file={certificate}", f"--tls-private-key-file={key}"
        started.append(PlainOPA(opa_binary, short_path, options=[*tls, *options], tls=True).start())
        return started[-1]

    yield start
    for opa in started:
        opa.kill()


async def test_transport_trusts_only_the_authority_in_ssl_cert_file(
    tls_opa, authority, monkeypatch
):
    opa = tls_opa()
    async with aclosing(open_transport(opa.tcp_url)) as transport:
        with pytest.raises(OPAUnreachableError):
            await transport.query("decision", QUERY)
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.pem))
    async with aclosing(open_transport(opa.tcp_url)) as transport:
        assert (await transport.query("decision", QUERY))["reason"] == "stale_data"
    async with aclosing(open_transport(opa.tcp_url.replace("https", "http"))) as transport:
        with pytest.raises(ResponseUnusableError):
            await transport.query("decision", QUERY)


async def test_mutual_tls_shows_the_clients_certificate(tls_opa, authority, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.pem))
    opa = tls_opa("--authentication=tls", f"--tls-ca-cert-file={authority.pem}")
    async with aclosing(
        open_transport(opa.tcp_url, client_cert=authority.issue("client"))
    ) as transport:
        assert (await transport.query("decision", QUERY))["reason"] == "stale_data"
    async with aclosing(open_transport(opa.tcp_url)) as transport:
        with pytest.raises(OPAUnreachableError):
            await transport.query("decision", QUERY)
    async with aclosing(
        open_transport(opa.tcp_url, client_cert=("/nowhere", "/nowhere"))
    ) as transport:
        with pytest.raises(OPAUnreachableError):
            await transport.query("decision", QUERY)
