"""OPA as `lictor opa` runs it: it answers no request without the token, and requests nothing but its bundles."""

import io
import json
from dataclasses import replace

import aiohttp
import pytest
from support.plain_opa import free_port
from support.waiting import until
from yarl import URL

from bundles.exceptions import AddressInvalidError, KeyUnusableError
from bundles.opa.server import OPASettings, client_token_file, command, prepare
from pdp_client import PDP, BearerVerifier

pytestmark = pytest.mark.anyio


def settings_in(folder, **changes):
    values = {
        "id": "opa-1",
        "folder": folder,
        "address": f"unix://{folder / 'opa.sock'}",
        "bundles_url": "http://127.0.0.1:1",
        "bundles_bearer": "b.s3cret",
        "policy_key": "",
        "data_key": "",
        "bundles": ["policy", "base-00"],
    }
    return OPASettings(**{**values, **changes})


@pytest.fixture
async def opa(signed):
    """A client of a hardened OPA; gives status and body."""
    await signed.start_signed()
    folder = signed.opa.settings.folder
    token = client_token_file(folder).read_text()
    connector = aiohttp.UnixConnector(path=str(folder / "opa.sock"))
    async with aiohttp.ClientSession("http://opa", connector=connector) as session:

        async def request(method, path, *, bearer=token, **kwargs):
            headers = {} if bearer is None else {"Authorization": f"Bearer {bearer}"}
            async with session.request(method, path, headers=headers, **kwargs) as answer:
                return answer.status, await answer.text()

        request.folder = folder
        yield request


STRICT = "?strict-builtin-errors=true"
QUERY = {
    "input": {"credential": {"kind": "anonymous"}, "action": {"method": "tools/call", "name": "x"}}
}


async def test_opa_without_the_token_answers_nothing(opa):
    paths = ["/", "/v1/data", "/v1/data/lictor/decision", "/v1/policies", "/v1/query?q=data",
             "/metrics", "/health", "/health?bundles", "/v1/config", "/v1/status", "/debug/pprof/"]  # fmt: skip
    for bearer in (None, "", "wrong", "x" * 10_000):
        for path in paths:
            for method in ("GET", "POST", "PUT", "DELETE", "PATCH"):
                status, text = await opa(method, path, bearer=bearer)
                assert status in (401, 404, 405, 500), (method, path, status)
                assert "decision" not in text
                assert "lib-a" not in text


async def test_opa_with_the_token_answers_its_entrypoints(opa):
    for rule in ("decision", "visible", "callers"):
        status, text = await opa("POST", f"/v1/data/lictor/{rule}{STRICT}", json=QUERY)
        assert status == 200
        expected = "ok" if rule == "callers" else "missing_token"
        assert json.loads(text)["result"]["reason"] == expected
    assert (await opa("GET", "/health"))[0] == 200


REFUSED_QUERIES = [
    "", "?", "?explain=debug", "?explain=full", "?strict-builtin-errors=false", "?strict-builtin-errors",
    "?strict-builtin-errors=true&strict-builtin-errors=true",
    *(
        f"{STRICT}&{more}"
        for more in (
            "explain=debug", "explain=full", "explain=notes", "explain=fails", "explain", "metrics=true",
            "metrics", "instrument=true", "provenance=true", "pretty=true", "input={}", "x=y",
            "%65xplain=debug", "watch=true",
        )
    ),
]  # fmt: skip


async def test_query_with_other_parameters_is_refused(opa):
    for rule in ("decision", "visible", "callers"):
        for query in REFUSED_QUERIES:
            url = URL(f"http://opa/v1/data/lictor/{rule}{query}", encoded=True)
            for method in ("POST", "GET"):
                status, text = await opa(method, url, json=QUERY)
                assert status == 401, (method, rule, query, text)
                assert "lib-a" not in text


async def test_opa_token_reads_no_data_and_writes_nothing(opa):
    refused = [
        ("GET", "/v1/data"), ("GET", "/v1/data/registry"), ("POST", "/v1/data/registry"),
        ("GET", "/v1/data/local"), ("GET", "/v1/data/lictor/decision"), ("POST", "/v1/data/lictor"),
        ("POST", "/v1/data/lictor/decision/x"), ("POST", "/v1/data/lictor/caller/granted"),
        ("POST", "/v0/data/lictor/decision"), ("POST", "/"), ("PUT", "/v1/data/registry/live"),
        ("PATCH", "/v1/data/registry"), ("DELETE", "/v1/data/registry"), ("PUT", "/v1/policies/x"),
        ("GET", "/v1/policies"), ("DELETE", "/v1/policies/x"), ("GET", "/v1/query?q=data.registry"),
        ("POST", "/v1/query"), ("POST", "/v1/compile"), ("GET", "/v1/config"), ("GET", "/v1/status"),
        ("GET", "/metrics"), ("GET", "/debug/pprof/"),
    ]  # fmt: skip
    for method, path in refused:
        status, text = await opa(
            method, path, data=b"package lictor\n" if "policies" in path else b"{}"
        )
        assert status in (401, 404, 405), (method, path, status, text)
        assert "lib-a" not in text


async def test_socket_and_the_files_are_their_owners_alone(opa):
    assert (opa.folder / "opa.sock").stat().st_mode & 0o777 == 0o600
    assert opa.folder.stat().st_mode & 0o777 == 0o700
    for name in ("client.token", "local.tar.gz", "config.json"):
        assert (opa.folder / name).stat().st_mode & 0o777 == 0o600
    token = client_token_file(opa.folder).read_text()
    for path in opa.folder.rglob("*"):
        if path.is_file() and path.name != "client.token":
            assert token.encode() not in path.read_bytes()


async def test_body_past_a_mebibyte_is_refused(opa):
    large = json.dumps({"input": {"x": "y" * (1 << 20)}}).encode()
    status, _ = await opa("POST", f"/v1/data/lictor/decision{STRICT}", data=io.BytesIO(large))
    assert status in (400, 413)
    assert (await opa("POST", f"/v1/data/lictor/decision{STRICT}", json=QUERY))[0] == 200


async def test_started_with_no_bundle_every_call_is_unavailable(signed):
    # Nothing is signed, not even to be refused.
    signed.opa.start()
    pdp = signed.pdp()
    await until((signed.opa.settings.folder / "opa.sock").exists, "OPA listens")
    for bearer in (None, "alice"):
        decision = await pdp.authorize(bearer, tool="search")
        assert (decision.allow, decision.reason) == (False, "unavailable")
    signed.bundles.put_dataset()

    async def allowed():
        return (await pdp.authorize("alice", tool="search")).allow

    await until(allowed, "the bundles have come")


@pytest.mark.parametrize("left_out", ["live", "heartbeat", "site", "base-00"])
async def test_opa_missing_a_bundle_makes_every_call_stale(signed, left_out):
    signed.bundles.put_dataset(leave_out=[left_out])
    signed.opa.start()
    pdp = await signed.wait_until_answering()
    for name in signed.bundles.served_bundles.names():
        await signed.bundles.wait_for_report(
            name, revision=signed.bundles.served_bundles.get(name).revision
        )
    assert (await pdp.authorize("alice", tool="search")).reason == "stale_data"


async def test_opa_over_tcp_requires_the_token_too(signed):
    address = f"http://127.0.0.1:{free_port()}"
    signed.opa.settings = replace(signed.opa.settings, address=address)
    pdp = await signed.start_signed()
    assert (await pdp.authorize("alice", tool="search")).allow is True
    async with PDP(opa_url=address, verifier=BearerVerifier([]), deadline=5) as tokenless:
        assert (await tokenless.authorize("alice", tool="search")).reason == "unavailable"


async def test_socket_that_a_killed_opa_left_behind_is_taken_over(signed):
    await signed.start_signed()
    signed.opa.kill()
    assert (signed.opa.settings.folder / "opa.sock").exists()
    signed.opa.start()
    pdp = await signed.wait_until_answering()

    async def allowed():
        return (await pdp.authorize("alice", tool="search")).allow

    await until(allowed, "OPA is back")


def test_token_is_kept_over_a_restart(tmp_path):
    settings = settings_in(tmp_path / "opa")
    prepare(settings)
    token = client_token_file(settings.folder).read_text()
    assert len(token) >= 40
    prepare(settings)
    assert client_token_file(settings.folder).read_text() == token


@pytest.mark.parametrize("left", ["", "\n"])
def test_empty_token_file_gets_a_token(tmp_path, left):
    settings = settings_in(tmp_path / "opa")
    settings.folder.mkdir()
    client_token_file(settings.folder).write_text(left)
    prepare(settings)
    assert len(client_token_file(settings.folder).read_text()) >= 40


def test_unreadable_token_file_is_named(tmp_path):
    settings = settings_in(tmp_path / "opa")
    client_token_file(settings.folder).mkdir(parents=True)
    with pytest.raises(KeyUnusableError, match=r"client\.token"):
        prepare(settings)
    client_token_file(settings.folder).rmdir()
    client_token_file(settings.folder).write_bytes(b"\xff\xfe")
    with pytest.raises(KeyUnusableError, match=r"client\.token"):
        prepare(settings)


def test_too_long_socket_path_is_refused_before_opa_starts(tmp_path):
    settings = settings_in(tmp_path, address=f"unix:///{'x' * 120}/opa.sock")
    with pytest.raises(AddressInvalidError, match="100 bytes at most"):
        prepare(settings)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("address", ["", "opa.sock", "tcp://127.0.0.1:1", "https://127.0.0.1:1"])
def test_unsupported_address_is_refused(tmp_path, address):
    with pytest.raises(AddressInvalidError, match=r"unix:///path or http://host:port"):
        prepare(settings_in(tmp_path, address=address))


def test_opa_config_has_no_token_and_no_telemetry(tmp_path, opa_binary):
    settings = settings_in(tmp_path / "opa")
    prepare(settings)
    token = client_token_file(settings.folder).read_text()
    arguments = command(opa_binary, settings)
    assert token not in " ".join(arguments)
    assert {"--disable-telemetry", "--skip-version-check"} & set(arguments)
    configuration = json.loads((settings.folder / "config.json").read_text())
    assert set(configuration["bundles"]) == {"policy", "base-00"}
    for name, bundle in configuration["bundles"].items():
        assert bundle["signing"] == {
            "keyid": "policy" if name == "policy" else "data",
            "scope": name,
        }
    assert "decision_logs" not in configuration
