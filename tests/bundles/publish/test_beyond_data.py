"""Bundles by the holder of the data key that bring more than data: nothing is answered from them."""

import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import jwt
import pytest
from support.plain_opa import TABLE
from support.signed_bundles import LIMITS
from support.tiers import long_family
from support.waiting import until

from bundles.opa.server import environment
from bundles.publish import signing
from bundles.publish.signing import Bundle, canonical_json, canonical_records, etag_of
from pdp_client import Action

pytestmark = pytest.mark.anyio

ROOTS = {"live": "registry/live", "heartbeat": "registry/heartbeat", "base-00": "registry/base/00"}


@pytest.fixture
def canary():
    """A web server that only rules of an attacker would call; its URL, and the paths called."""
    called = []

    class CanaryHandler(BaseHTTPRequestHandler):
        def do_GET(self):
            called.append(self.path)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), CanaryHandler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", called
    server.shutdown()
    thread.join()
    server.server_close()


def forged(signed, name, *, rego=None, files=None, data=None, key="data", **manifest):
    """A bundle signed rightly, with whatever an attacker puts into it."""
    key = signed.bundles.keys[key]
    members = {"revision": "evil", "roots": [ROOTS[name]], "rego_version": 0, **manifest}
    members = {name: value for name, value in members.items() if value is not None}
    content = {".manifest": canonical_json(members), **(files or {})}
    if data is not None:
        content[f"{ROOTS[name]}/data.json"] = canonical_records(data)
    if rego is not None:
        content[f"{ROOTS[name]}/evil.rego"] = rego.encode()
    hashes = [
        {"name": path, "hash": hashlib.sha256(body).hexdigest(), "algorithm": "SHA-256"}
        for path, body in sorted(content.items())
    ]
    payload = {"files": hashes, "scope": name, "keyid": key.keyid}
    token = jwt.encode(payload, key.private, algorithm="ES256", headers={"kid": key.keyid})
    content[".signatures.json"] = canonical_json({"signatures": [token]})
    packed = signing._pack(content, level=1)
    return Bundle(name, "evil", etag_of(packed), packed)


def data_of(signed, name):
    document = signing.data_of(signed.bundles.served_bundles.get(name).content)
    for part in ROOTS[name].split("/"):
        document = document[part]
    return document


async def reason(pdp):
    decision = await pdp.authorize("alice", tool="search")
    visible = await pdp.visible("alice", actions=[Action(name="search")])
    if decision.reason == "stale_data":
        assert visible.reason == "stale_data"
        assert visible.indices == ()
        assert decision.libraries == ()
        assert decision.allow is False
    return decision.reason


async def becomes(pdp, wanted):
    # While OPA activates a bundle, a call and the list after it may differ: they are compared once it has.
    async def reached():
        return (await pdp.authorize("alice", tool="search")).reason == wanted

    await until(reached, f"the reason is {wanted}")
    assert await reason(pdp) == wanted


# `import rego.v1` makes one text a module of both versions.
RULE = """package registry.{below}

import rego.v1

{head} := {value} if {{
	http.send({{"url": "{url}/called", "method": "GET"}})
	opa.runtime()
}}
"""

# What a rule computes in place of data, so that each decision reads it.
COMPUTED = {
    "live": ("live", "settings", canonical_json({**TABLE["dataset"]["registry"]["live"]["settings"], **LIMITS}).decode()),
    "heartbeat": ("heartbeat", "synced_at_ns", "time.now_ns()"),
    "base-00": ('base["00"]', "tokens", "{}"),
}  # fmt: skip


async def replaced(signed, name, **kwargs):
    """A PDP, and what is called `name` replaced by a forgery, before OPA starts or after."""
    if name == "base-00":
        # OPA requests a new one every half minute only.
        signed.bundles.put_dataset()
        signed.bundles.served_bundles.put(forged(signed, name, **kwargs))
        signed.opa.start()
        await signed.bundles.wait_for_report(name, revision="evil")
        return await signed.wait_until_answering()
    pdp = await signed.start_signed()
    assert await reason(pdp) == "ok"
    signed.bundles.served_bundles.put(forged(signed, name, **kwargs))
    await signed.bundles.wait_for_report(name, revision="evil")
    return pdp


@pytest.mark.parametrize("name", long_family(ROOTS, quick=1))
@pytest.mark.parametrize(
    "manifest",
    [
        {},
        {"rego_version": 1},
        {"rego_version": None},
        {"file_rego_versions": {"/*/*/evil.rego": 1, "/*/*/*/evil.rego": 1}},
        {"rego_version": 1, "file_rego_versions": {"/*/*/evil.rego": 0}},
    ],
    ids=["version-0", "version-1", "no-version", "version-1-by-file", "version-0-by-file"],
)
async def test_rules_in_a_data_bundle_are_never_evaluated(signed, canary, name, manifest):
    signed.bundles.put_dataset()
    url, called = canary
    below, head, value = COMPUTED[name]
    document = data_of(signed, name)
    del document[head]
    rego = RULE.format(below=below, head=head, value=value, url=url)
    pdp = await replaced(signed, name, rego=rego, data=document, **manifest)
    for _ in range(3):
        assert await reason(pdp) == "stale_data"
    assert called == []


async def test_heartbeat_with_a_computed_time_is_refused(signed):
    pdp = await signed.start_signed()
    document = data_of(signed, "heartbeat")
    del document["synced_at_ns"], document["reconciled_at_ns"]
    rego = (
        "package registry.heartbeat\n\nsynced_at_ns := time.now_ns()\n\n"
        "reconciled_at_ns := time.now_ns()\n"
    )
    signed.bundles.served_bundles.put(
        forged(signed, "heartbeat", rego=rego, data=document, rego_version=1)
    )
    await signed.bundles.wait_for_report("heartbeat", revision="evil")
    assert await reason(pdp) == "stale_data"


async def test_answers_come_back_with_a_bundle_of_data_alone(signed):
    pdp = await signed.start_signed()
    good = signed.bundles.served_bundles.get("live")
    document = data_of(signed, "live")
    signed.bundles.served_bundles.put(
        forged(signed, "live", data=document, roots=[ROOTS["live"], "evil"])
    )
    await signed.bundles.wait_for_report("live", revision="evil")
    assert await reason(pdp) == "stale_data"
    signed.bundles.served_bundles.put(good)
    await signed.bundles.wait_for_report("live", revision=good.revision)
    assert await reason(pdp) == "ok"


async def test_module_that_hid_another_requires_an_opa_restart(signed):
    # OPA puts it in the place of the site's file, which is gone when it goes.
    signed.bundles.put_dataset(leave_out=["site"])
    signed.bundles.put_site(
        'package site\n\ndeny contains {"action": "search", "code": "x", "message": "x"}\n'
    )
    signed.opa.start()
    pdp = await signed.wait_until_answering()
    await becomes(pdp, "site_rule")
    good = signed.bundles.served_bundles.get("live")
    files = {"../site/site/rules.rego": b"package registry.live.x\n\nx = 1 { true }\n"}
    signed.bundles.served_bundles.put(
        forged(signed, "live", data=data_of(signed, "live"), files=files)
    )
    await signed.bundles.wait_for_report("live", revision="evil")
    assert await reason(pdp) == "stale_data"
    signed.bundles.served_bundles.put(good)
    await signed.bundles.wait_for_report("live", revision=good.revision)
    assert await reason(pdp) == "stale_data"


@pytest.mark.parametrize("name", ROOTS)
@pytest.mark.parametrize(
    "extra", long_family(["evil", "%73ite", "%6cictor/manifest", "registry/extra"], quick=2)
)
async def test_data_below_other_roots_makes_every_answer_stale(signed, name, extra):
    signed.bundles.put_dataset()
    files = {f"{extra}/data.json": b"{}"}
    pdp = await replaced(
        signed, name, data=data_of(signed, name), files=files, roots=[ROOTS[name], extra]
    )
    assert await reason(pdp) == "stale_data"


@pytest.mark.parametrize(
    "extra",
    long_family([
        "local", "local/clients", "%6cocal", "%6Cocal/clients", "l%6fca%6c", "system", "system/bundles",
        "system/bundles/live/manifest", "system/modules", "%73ystem/bundles", "s%79stem", "system/%62undles/live",
        "system/bundle%73", "%73%79%73%74%65%6d/modules", "system/%6Dodules", "lictor", "site", "system/authz", "",
    ], quick=5),
)  # fmt: skip
async def test_overlapping_roots_are_refused_by_opa(signed, extra):
    pdp = await signed.start_signed()
    files = {f"{extra}/data.json": b"{}"} if extra else {}
    roots = [ROOTS["live"], extra] if extra else [""]
    signed.bundles.served_bundles.put(
        forged(signed, "live", data=data_of(signed, "live"), files=files, roots=roots)
    )
    await signed.bundles.wait_for_report("live", error="overlap")
    assert await reason(pdp) == "ok"


@pytest.mark.parametrize("roots", [["lictor"], ["lictor", "system/authz"], ["site"]])
async def test_data_bundle_with_policy_roots_answers_nothing(signed, roots):
    left_out = "policy" if "lictor" in roots else "site"
    signed.bundles.put_dataset(leave_out=[left_out])
    files = {
        "lictor/x.rego": b'package lictor\n\ndecision := {"allow": true}\n',
        "system/authz/x.rego": b"package system.authz\n\nallow := true\n",
        "site/x.rego": b'package site\n\nhidden := {"lib-a"}\n',
    }
    files = {path: text for path, text in files.items() if path.rpartition("/")[0] in roots}
    data = data_of(signed, "base-00")
    signed.bundles.served_bundles.put(
        forged(
            signed, "base-00", data=data, files=files, rego_version=1,
            roots=[ROOTS["base-00"], *roots],
        )
    )  # fmt: skip
    signed.opa.start()
    await signed.bundles.wait_for_report("base-00", revision="evil")
    pdp = signed.pdp()
    assert await reason(pdp) in {"unavailable", "stale_data"}
    # The real one comes too late, and OPA says so.
    signed.bundles.put_dataset(leave_out=["base-00"])
    await signed.bundles.wait_for_report(left_out, error="overlap")
    assert await reason(pdp) in {"unavailable", "stale_data"}


async def test_persisted_bundle_with_rules_is_stale_after_a_restart(signed):
    pdp = await signed.start_signed()
    document = data_of(signed, "live")
    settings = document.pop("settings")
    rego = f"package registry.live\n\nsettings := {canonical_json(settings).decode()}\n"
    signed.bundles.served_bundles.put(
        forged(signed, "live", rego=rego, data=document, rego_version=1)
    )
    await signed.bundles.wait_for_report("live", revision="evil")
    assert await reason(pdp) == "stale_data"
    signed.opa.kill()
    signed.opa.start()
    pdp = await signed.wait_until_answering()
    assert await reason(pdp) == "stale_data"


def test_opa_environment_holds_no_secret():
    inherited = {
        "AWS_SECRET_ACCESS_KEY": "x",
        "HOME": "/root",
        "PATH": "/bin",
        "GOMEMLIMIT": "1GiB",
    }
    assert environment(inherited) == {"GOMEMLIMIT": "1GiB"}
