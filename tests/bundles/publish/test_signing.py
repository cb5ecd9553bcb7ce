"""What we sign, OPA takes; what was touched, or signed as something else, it does not."""

import gzip
import hashlib
import json
import random

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from support.plain_opa import make_dataset
from support.signed_bundles import unpack
from support.tiers import long_family
from support.waiting import until

from bundles.exceptions import KeyUnusableError
from bundles.publish.signing import SigningKey, _pack, canonical_json, canonical_records, sign

pytestmark = pytest.mark.anyio

ODD_TEXTS = [
    "", " ", "a/b", "../x", "<script>", "a & b", ">", "\u2028", "\u2029", "\x00", "\x01", "\b", "\f",
    "\n", "\r", "\t", "\v", "\x1f", "\x7f", "\x80", "\x9f", '"', "'", "\\", "\\u2028", "é", "e\u0301",
    "ß", "\ufeff", "\ufffd", "\uffff", "🙂", "👩‍👩‍👧", "\U0010ffff", "𝒳", "\u202e", "中文", "$ref", "%s", "{{x}}",
    "\ue000", "\ud7ff",
]  # fmt: skip
ODD_NUMBERS = [
    0, -0, -1, 2**53, 2**53 + 1, -(2**63), 2**64, 10**30, 0.0, -0.0, 1.0, 0.1, 1.5e300, 5e-324, 1e21,
    1e22, 1e-7, 123456789.125, 1795000000.123456, 4102444800, 1e100,
]  # fmt: skip


def odd_documents():
    random_ = random.Random(0)

    def value(depth):
        match random_.randrange(7 if depth else 5):
            case 0 | 1:
                return "".join(random_.choices(ODD_TEXTS, k=random_.randrange(4)))
            case 2:
                return random_.choice(ODD_NUMBERS)
            case 3:
                return random_.choice([None, True, False])
            case 4:
                return random_.uniform(-1e12, 1e12)
            case 5:
                return [value(depth - 1) for _ in range(random_.randrange(4))]
            case _:
                return {key(): value(depth - 1) for _ in range(random_.randrange(6))}

    def key():
        return "".join(random_.choices(ODD_TEXTS, k=random_.randrange(1, 4)))

    yield {text: text for text in ODD_TEXTS}
    yield dict(enumerate(ODD_NUMBERS))
    for _ in range(200):
        yield {key(): value(4) for _ in range(8)}


def test_records_are_written_faster_and_to_the_same_bytes():
    texts = {text: [text, {text: text}] for text in ODD_TEXTS}
    numbers = [n for n in ODD_NUMBERS if isinstance(n, float) or -(2**63) <= n < 2**64]
    for document in (texts, {str(n): n for n in numbers}, {"a": [None, True, False, {}]}):
        # How a number is spelt is the writer's choice: OPA keeps it as it finds it.
        again = json.loads(canonical_records(document))
        assert canonical_json(again) == canonical_json(document)
    assert canonical_records(texts) == canonical_json(texts)


@pytest.mark.parametrize("odd", ["\ud800", 2**64, {"\udfff": 1}, {1: 2}])
def test_value_without_canonical_json_is_refused(odd):
    with pytest.raises(ValueError):
        canonical_records({"odd": odd})


def test_our_bytes_have_the_hash_that_opa_gives_to_the_document(opa_binary, tmp_path):
    key = SigningKey.generate("data")
    pem = key.save(tmp_path)
    wanted = {}
    for number, document in enumerate(odd_documents()):
        path = tmp_path / "bundle" / f"d{number}" / "data.json"
        path.parent.mkdir(parents=True)
        # Written as differently as JSON allows: OPA's hash is of the value.
        path.write_text(json.dumps(document, indent=3, ensure_ascii=True))
        again = json.loads(path.read_text())
        wanted[f"d{number}/data.json"] = hashlib.sha256(canonical_json(again)).hexdigest()
    opa_binary.run(
        "sign", f"--signing-key={pem}", "--signing-alg=ES256", "--bundle",
        f"--output-file-path={tmp_path}", str(tmp_path / "bundle"),
    )  # fmt: skip
    (token,) = json.loads((tmp_path / ".signatures.json").read_text())["signatures"]
    claims = jwt.decode(token, options={"verify_signature": False})
    prefix = str(tmp_path / "bundle").lstrip("/") + "/"
    found = {e["name"].lstrip("/").removeprefix(prefix): e["hash"] for e in claims["files"]}
    assert {name: found.get(name) for name in wanted} == wanted


def test_opa_verifies_a_bundle_with_odd_names(opa_binary, tmp_path):
    key = SigningKey.generate("data")
    public = tmp_path / "data.pub.pem"
    public.write_text(key.public_pem)
    document = {"odd": {"texts": {text: text for text in ODD_TEXTS}, "numbers": ODD_NUMBERS}}
    rego = {"odd/a b <&>🙂.rego": b"package odd.rules\n\nallow := true\n"}
    bundle = sign("odd", revision="r \u2028 <1>", roots=["odd"], key=key, data=document, rego=rego)
    path, checked = tmp_path / "odd.tar.gz", tmp_path / "checked.tar.gz"
    path.write_bytes(bundle.content)
    opa_binary.run(
        "build", "--bundle", str(path), f"--verification-key={public}", "--verification-key-id=data",
        "--signing-alg=ES256",
        "--scope=odd", f"--output={checked}",
    )  # fmt: skip
    read = json.loads(opa_binary.run("eval", f"--bundle={checked}", "--format=json", "data.odd"))
    value = read["result"][0]["expressions"][0]["value"]
    assert value["texts"] == document["odd"]["texts"]
    assert value["numbers"] == document["odd"]["numbers"]
    assert value["rules"] == {"allow": True}


@pytest.mark.parametrize(
    "odd", [float("nan"), float("inf"), "\ud800", {"a": "\udfff"}, {1, 2}, b"x"]
)
def test_value_that_is_not_json_is_never_signed(odd):
    with pytest.raises((ValueError, TypeError)):
        canonical_json({"odd": odd})


def test_equal_content_gives_equal_bytes_except_the_signature():
    key = SigningKey.generate("data")
    one, two = (
        sign("x", revision="1", roots=["x"], key=key, data={"x": {"b": 1, "a": 2}}) for _ in "ab"
    )
    assert unpack(one.content).keys() == {"/.manifest", "/data.json", "/.signatures.json"}
    for name in ("/.manifest", "/data.json"):
        assert unpack(one.content)[name] == unpack(two.content)[name]
    assert one.etag == f'"{hashlib.sha256(one.content).hexdigest()}"'


def flipped(content):
    """One bit of the data changed, in a bundle that is otherwise whole."""
    data = bytearray(unpack(content)["/data.json"])
    data[data.index(b'"active":true') + 2] ^= 1
    files = {name.lstrip("/"): body for name, body in unpack(content).items()}
    return _pack({**files, "data.json": bytes(data)}, level=6)


def unsigned(content):
    files = {name.lstrip("/"): body for name, body in unpack(content).items()}
    del files[".signatures.json"]
    return _pack(files, level=6)


def with_more(content):
    """A file that the signature does not know."""
    files = {name.lstrip("/"): body for name, body in unpack(content).items()}
    return _pack({**files, "registry/base/00/x/data.json": b"{}"}, level=6)


ODD_BUNDLES = {
    "signed by another key": lambda signed, good: signed.bundles.sign("base-00", good, key=SigningKey.generate("data")),
    "signed by the policy key": lambda signed, good: signed.bundles.sign("base-00", good, key=signed.bundles.keys["policy"]),
    "signed under another scope": lambda signed, good: signed.bundles.sign("base-00", good, scope="live"),
    "not signed": lambda signed, good: unsigned(signed.bundles.sign("base-00", good).content),
    "one bit flipped": lambda signed, good: flipped(signed.bundles.sign("base-00", good).content),
    "truncated": lambda signed, good: signed.bundles.sign("base-00", good).content[:-40],
    "truncated in the middle": lambda signed, good: (c := signed.bundles.sign("base-00", good).content)[: len(c) // 2],
    "one file more": lambda signed, good: with_more(signed.bundles.sign("base-00", good).content),
    "empty": lambda *_: b"",
    "no archive": lambda *_: b"<html>captive portal</html>",
    "no tar": lambda *_: gzip.compress(b"garbage"),
}  # fmt: skip


SAYS = {"signed by another key": "invalid ECDSA signature", "signed by the policy key": "invalid ECDSA signature", "signed under another scope": "scope mismatch", "not signed": "missing .signatures.json", "one bit flipped": "digest mismatch", "truncated": "unexpected EOF", "truncated in the middle": "unexpected EOF", "one file more": "not included in bundle signature", "empty": "EOF", "no archive": "invalid header", "no tar": "unexpected EOF"}  # fmt: skip


@pytest.mark.parametrize("odd", long_family(ODD_BUNDLES, quick=4))
async def test_opa_started_with_a_bad_bundle_reports_it(signed, odd):
    # A live that goes on from the odd base, so that it would be used if it were taken.
    good = make_dataset()["registry"]["base"]["00"]
    signed.bundles.put_dataset(leave_out=["base-00"])
    made = ODD_BUNDLES[odd](signed, good)
    signed.bundles.put_raw("base-00", made if isinstance(made, bytes) else made.content)
    signed.opa.start()
    pdp = await signed.wait_until_answering()
    reported = await signed.bundles.wait_for_report("base-00", error=SAYS[odd])
    assert (await pdp.authorize("alice", tool="search")).reason == "stale_data"
    assert "base-00" not in reported.revisions


async def test_opa_keeps_the_last_good_bundle_and_reports_the_bad_one(signed):
    pdp = await signed.start_signed()
    assert (await pdp.authorize("alice", tool="search")).allow is True
    newer = {"epoch": 1, "revision": 43, "since": {"00": 30}, "settings": {}}
    for content, words in (
        (
            signed.bundles.sign("live", newer, key=SigningKey.generate("data")).content,
            "invalid ECDSA",
        ),
        (signed.bundles.sign("live", newer, scope="heartbeat").content, "scope mismatch"),
        (signed.bundles.sign("live", newer).content[:-40], "unexpected EOF"),
    ):
        signed.bundles.put_raw("live", content)
        reported = await signed.bundles.wait_for_report("live", error=words)
        assert reported.revisions["live"] == "1:42"
        assert (await pdp.authorize("alice", tool="search")).allow is True
    signed.bundles.put_dataset({"live": {"revision": 44}})
    reported = await signed.bundles.wait_for_report("live", revision="1:44")
    assert (await pdp.authorize("alice", tool="search")).revision == 44


async def test_damaged_persisted_bundle_is_not_loaded_at_restart(signed):
    pdp = await signed.start_signed()
    signed.opa.kill()
    (persisted,) = signed.opa.settings.folder.glob("persisted/**/base-00/bundle.tar.gz")
    content = bytearray(persisted.read_bytes())
    persisted.write_bytes(content[: len(content) // 2])
    signed.bundles.take_away("base-00")
    signed.opa.start()
    pdp = await signed.wait_until_answering()
    assert (await pdp.authorize("alice", tool="search")).reason == "stale_data"
    signed.bundles.put_dataset()

    async def allowed():
        return (await pdp.authorize("alice", tool="search")).allow

    await until(allowed, "OPA answers from whole bundles")


async def test_opa_without_the_server_answers_until_stale(signed):
    pdp = await signed.start_signed()
    signed.opa.kill()
    for name in signed.bundles.served_bundles.names():
        signed.bundles.take_away(name)
    signed.opa.start()
    pdp = await signed.wait_until_answering()

    async def allowed():
        return (await pdp.authorize("alice", tool="search")).allow

    await until(allowed, "OPA answers from whole bundles")


# Keys.


def test_key_file_is_private_and_round_trips(tmp_path):
    key = SigningKey.generate("data")
    path = key.save(tmp_path)
    assert path.name == "data.pem"
    assert path.stat().st_mode & 0o777 == 0o600
    again = SigningKey.load(path)
    assert (again.keyid, again.public_pem) == ("data", key.public_pem)
    with pytest.raises(FileExistsError):
        key.save(tmp_path)
    assert "PRIVATE" not in repr(key)


@pytest.mark.parametrize("content", [None, b"", b"garbage", b"-----BEGIN PRIVATE KEY-----\nAA==\n"])
def test_invalid_key_file_is_named_without_its_content(tmp_path, content):
    path = tmp_path / "data.pem"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(KeyUnusableError, match=r"data\.pem: no readable private key"):
        SigningKey.load(path)


def test_key_of_another_kind_is_refused(tmp_path):
    for key in (ec.generate_private_key(ec.SECP384R1()), ed25519.Ed25519PrivateKey.generate()):
        path = tmp_path / "data.pem"
        path.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        with pytest.raises(KeyUnusableError, match="ES256"):
            SigningKey.load(path)
