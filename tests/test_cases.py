"""The table of cases against a real OPA, with real bearers; `opa test` runs the same table."""

import json
import re
from contextlib import aclosing

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from jwt.algorithms import OKPAlgorithm
from support.plain_opa import ROOT, TABLE, make_dataset

from pdp_client import PDP, Action, BearerVerifier, Issuer, Keyring, Reason
from pdp_client.bearer.opaque import digest
from pdp_client.opa.transport import open_transport
from pdp_client.reasons import message

pytestmark = pytest.mark.anyio

CASES = TABLE["cases"]
PYTHON_ALONE = {
    "key_missing", "alg_unsupported", "claim_missing", "claim_invalid", "audience_invalid", "replayed",
}  # fmt: skip


@pytest.fixture(scope="module")
def signing_keys():
    kids = {"team-1": "mnemosyne", "team-old": "mnemosyne", "team-new": "mnemosyne", "turn-1": "daedalus"}  # fmt: skip
    return {kid: (issuer, Ed25519PrivateKey.generate()) for kid, issuer in kids.items()}


@pytest.fixture(scope="module")
def case_verifier(signing_keys):
    issuers = {}
    for kid, (issuer, key) in signing_keys.items():
        jwk = OKPAlgorithm.to_jwk(key.public_key(), as_dict=True)
        issuers.setdefault(issuer, []).append({**jwk, "kid": kid, "alg": "EdDSA"})
    return BearerVerifier(
        Issuer(name, Keyring.from_jwks({"keys": keys})) for name, keys in issuers.items()
    )


@pytest.fixture
async def answer_to(plain_opa, case_verifier, signing_keys):
    """Send a case's query on a case's dataset; return the response in the shape of the contract."""

    async def answer(case):
        plain_opa.set_dataset(make_dataset(case.get("dataset"), case.get("without", ())))
        if case.get("raw") or "min_revision" in case:
            async with aclosing(open_transport(plain_opa.unix_url)) as transport:
                return await transport.query("decision", sent(case))
        async with PDP(opa_url=plain_opa.unix_url, verifier=case_verifier, deadline=5) as pdp:
            decision = await pdp.decide(
                bearer(case["credential"], signing_keys), Action(**case["action"])
            )
        return as_contract(decision)

    return answer


def bearer(credential, keys):
    if "kid" not in credential:
        return credential.get("bearer")
    key = keys[credential["kid"]][1]
    return jwt.encode(credential["claims"], key, "EdDSA", headers={"kid": credential["kid"]})


def sent(case):
    credential = case["credential"]
    if "query_credential" in case:
        credential_input = case["query_credential"]
    elif "bearer" in credential:
        credential_input = {"kind": "token", "digest": digest(credential["bearer"])}
    elif "kid" in credential:
        credential_input = {"kind": "jwt", **credential}
    else:
        credential_input = {"kind": "anonymous"}
    least = {name: case[name] for name in ("min_epoch", "min_revision") if name in case}
    return {
        "credential": credential_input,
        "action": {"method": "tools/call", **case["action"]},
        **least,
    }


def as_contract(decision):
    principal = decision.principal
    return {
        "allow": decision.allow,
        "reason": decision.reason.value,
        "reasons": list(decision.reasons),
        "message": decision.message,
        "principal": principal
        and {key: getattr(principal, key) for key in ("type", "id", "name", "user")},
        "libraries": list(decision.libraries),
        "epoch": decision.epoch,
        "revision": decision.revision,
        "data_age_ms": decision.data_age_ms,
        "valid_until": decision.valid_until,
        "uses_arguments": decision.uses_arguments,
    }


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
async def test_case(case, answer_to):
    answer = await answer_to(case)
    assert {name: answer[name] for name in case["want"]} == case["want"]
    # Whatever the case is about: no allow without `ok`, no libraries without an allow.
    assert answer["allow"] is (answer["reasons"] == ["ok"])
    assert answer["allow"] or answer["libraries"] == []


def describe_action(action):
    method = action.get("method", "tools/call")
    return action["name"] if method == "tools/call" else f"{method}:{action['name']}"


async def test_python_and_rego_say_the_same_in_the_same_words(answer_to):
    said = {}
    for case in CASES:
        answer = await answer_to(case)
        details = {
            "kid": case["credential"].get("kid", ""),
            "tool": describe_action(case["action"]),
            "owner": "".join(re.findall("'(.*)'", answer["message"])),
        }
        if answer["reason"] != "site_rule":
            assert answer["message"] == message(Reason(answer["reason"]), **details), case["name"]
        said[answer["reason"]] = answer["message"]
    # `unavailable` has no case: it takes a fault in the rules to get there.
    assert set(said) == set(Reason) - PYTHON_ALONE - {"unavailable"}


async def test_python_and_rego_quote_names_alike(answer_to):
    for name in ["it's", 'say "x"', "a\\b", "naïve 🙂", "x" * 64, "🙂" * 65]:
        case = {"credential": {"bearer": "no-tools"}, "action": {"name": name}}
        describe_action = message(Reason.TOOL_NOT_ALLOWED, tool=name)
        assert (
            (await answer_to(case))["message"]
            == describe_action
            == (
                f"Token does not have permission to call '{name if len(name) < 65 else name[:63] + '…'}'."
            )
        )


def test_reason_order_names_exactly_what_opa_may_answer(plain_opa, opa_binary):
    order = plain_opa.value("lictor/_order")
    assert len(order) == len(set(order))
    assert set(order) == set(Reason) - PYTHON_ALONE
    given = {"ok", "unavailable"}
    for path in ("lictor.rego", "caller/caller.rego"):
        tree = json.loads(
            opa_binary.run("parse", "--format=json", str(ROOT / "policies" / "lictor" / path))
        )
        for rule in tree["rules"]:
            head = rule["head"]
            if (
                head["ref"][0]["value"] in {"reasons", "_blocked", "_action_refusals"}
                and "key" in head
            ):
                given |= {head["key"]["value"]} if head["key"]["type"] == "string" else set()
    assert set(order) == given


def test_messages_of_rules_without_a_name_are_pythons(plain_opa):
    messages = plain_opa.value("lictor/_message")
    assert len(messages) > 10
    for code, text in messages.items():
        if code != Reason.SITE_RULE:  # that one is in the rule's own words
            assert text == message(Reason(code))
