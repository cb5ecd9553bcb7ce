"""Actions too large to send to OPA: denied as values, without OPA, and recorded short."""

import json

import pytest
from support.plain_opa import make_dataset

from pdp_client import PDP, Action, BearerVerifier, FileRecord, Issuer
from pdp_client.opa.limits import MAX_NAME, MAX_TAG, MAX_TAGS

pytestmark = pytest.mark.anyio

LONG = "x" * (MAX_NAME + 1)
LARGE = {
    "name": {"name": LONG},
    "name of 900 KB": {"name": "x" * 900_000},
    "name beyond the BMP": {"name": "\N{SLIGHTLY SMILING FACE}" * (MAX_NAME + 1)},
    "uri": {"name": "x", "uri": LONG},
    "tag": {"name": "x", "tags": ["t" * (MAX_TAG + 1)]},
    "tags": {"name": "x", "tags": ["t"] * (MAX_TAGS + 1)},
    "10,000 tags": {"name": "x", "tags": [f"t{n}" for n in range(10_000)]},
    "version": {"name": "x", "version": "1" * (MAX_TAG + 1)},
    "method": {"name": "x", "method": "m" * (MAX_TAG + 1)},
}


class QueryListTransport:
    """A way to OPA that counts the queries."""

    def __init__(self, transport):
        self._transport = transport
        self.queries = []

    async def query(self, entrypoint, sent):
        self.queries.append(sent)
        return await self._transport.query(entrypoint, sent)

    async def aclose(self):
        await self._transport.aclose()


@pytest.fixture
async def pdp(plain_opa, team_keys, tmp_path):
    from pdp_client.opa.transport import open_transport

    plain_opa.set_dataset(make_dataset())
    transport = QueryListTransport(open_transport(plain_opa.unix_url))
    verifier = BearerVerifier([Issuer("mnemosyne", team_keys)])
    path = tmp_path / "decisions.jsonl"
    async with PDP(
        opa_url="", opa_transport=transport, verifier=verifier, record=FileRecord(path), deadline=5
    ) as pdp:
        pdp.queries = transport.queries
        pdp.lines = lambda: [json.loads(line) for line in path.read_text().splitlines()]
        yield pdp


@pytest.mark.parametrize("action", LARGE.values(), ids=LARGE)
async def test_too_large_action_is_refused_without_opa(pdp, action):
    decision = await pdp.decide("everything", Action(**action))
    assert (decision.allow, decision.reason) == (False, "tool_not_allowed")
    assert len(decision.message) < 200
    assert decision.credential is not None
    for bearer, reason in ((None, "missing_token"), ("two words", "invalid_token")):
        assert (await pdp.decide(bearer, Action(**action))).reason == reason
    assert pdp.queries == []
    assert len(json.dumps(pdp.lines()[0])) < 3 * MAX_NAME + MAX_TAGS * MAX_TAG + 12 * MAX_NAME


async def test_record_truncates_a_long_name(pdp):
    await pdp.decide("everything", Action(name="x" * 900_000))
    (line,) = pdp.lines()
    assert line["action"]["name"] == "x" * MAX_NAME
    assert line["reason"] == "tool_not_allowed"


async def test_record_of_a_too_large_action_keeps_its_method_and_tags(pdp):
    tags = ["t" * (MAX_TAG + 1), "write"]
    await pdp.decide("everything", Action(method="prompts/get", name="plain", tags=tags))
    (line,) = pdp.lines()
    assert line["action"]["method"] == "prompts/get"
    assert line["action"]["tags"] == ["t" * MAX_TAG, "write"]


async def test_action_at_the_limits_is_decided_by_opa(pdp):
    action = Action(
        name="x" * MAX_NAME,
        uri="u" * MAX_NAME,
        tags=["t" * MAX_TAG] * MAX_TAGS,
        version="1" * MAX_TAG,
    )
    assert (await pdp.decide("everything", action)).allow
    assert len(pdp.queries) == 1


async def test_list_omits_actions_that_are_too_large(pdp):
    fits = Action(name="search")
    for large in LARGE.values():
        actions = [Action(**large), fits, Action(**large), fits]
        visible = await pdp.visible("everything", actions=actions)
        assert (visible.indices, visible.reason) == ((1, 3), "ok")
    assert all(len(query["actions"]) == 2 for query in pdp.queries)
    listed = await pdp.visible("everything", actions=[Action(name=LONG)])
    assert listed.indices == ()
    hidden = pdp.lines()[-1]["list"]["hidden"]
    assert hidden == {"tools/call": ["x" * MAX_NAME]}
