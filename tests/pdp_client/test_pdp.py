"""From a bearer to a decision: one deadline, no exception, nothing older than what was seen."""

import asyncio
import time

import pytest
from support.faults import ALLOW, always, answer, faulty
from support.plain_opa import make_dataset
from support.waiting import until

from pdp_client import PDP, Action, BearerRejected, BearerVerifier, FileRecord, Issuer, Reason
from pdp_client.exceptions import ConfigurationError, OPAUnreachableError, ResponseUnusableError
from pdp_client.opa.transport import open_transport

pytestmark = pytest.mark.anyio


@pytest.fixture
def real_verifier(team_keys, turn_keys):
    return BearerVerifier([Issuer("mnemosyne", team_keys), Issuer("daedalus", turn_keys)])


@pytest.fixture
async def make_pdp(plain_opa, real_verifier):
    made = []

    def make(**kwargs):
        kwargs.setdefault("opa_url", plain_opa.unix_url)
        kwargs.setdefault("deadline", 5)
        made.append(PDP(verifier=real_verifier, **kwargs))
        return made[-1]

    yield make
    for pdp in made:
        await pdp.aclose()


@pytest.fixture
def table_dataset(plain_opa):
    plain_opa.set_dataset(make_dataset())
    return plain_opa


class Answers:
    """A transport that responds what a test says, when it says so; a real OPA cannot be made to."""

    def __init__(self):
        self.asked = []

    async def query(self, entrypoint, sent):
        future = asyncio.get_running_loop().create_future()
        self.asked.append(future)
        return await future

    async def aclose(self):
        pass


class HangingReplayGuard:
    async def check(self, _):
        await asyncio.Event().wait()


def at(epoch, revision, **changes):
    return {**ALLOW, "epoch": epoch, "revision": revision, **changes}


@pytest.fixture(params=["unix", "tcp"])
def kind(request):
    return request.param


async def test_deadline_is_for_everything_together(make_pdp, kind, short_path):
    async def slow(server, reader, writer):
        # Each step is well within the deadline; all of them are not.
        await server.request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
        while True:
            await asyncio.sleep(0.02)
            writer.write(b" ")
            await writer.drain()

    async with faulty(kind, slow, short_path) as server:
        pdp = make_pdp(opa_url=server.url, deadline=0.2)
        began = time.monotonic()
        decision = await pdp.authorize("alice", tool="search")
        assert decision.reason is Reason.UNAVAILABLE
        assert 0.2 <= time.monotonic() - began < 20
        assert (await pdp.visible("alice", actions=[Action(name="x")])).reason is Reason.UNAVAILABLE


async def test_deadline_covers_the_replay_check(make_pdp):
    pdp = make_pdp(deadline=0.05, replay=HangingReplayGuard())
    assert (await pdp.authorize("alice", tool="search")).reason is Reason.UNAVAILABLE


@pytest.mark.parametrize(
    "raw",
    [
        b"", b"garbage\r\n\r\n", answer({}), answer(b""), answer({"result": True}),
        answer({"result": {"allow": True}}), answer({"result": ALLOW}, status="500 Oops"),
        answer({"result": {**ALLOW, "principal": {"type": [], "id": "x"}}}),
        answer({"result": {**ALLOW, "valid_until": 10**400}}),
        answer({"result": ALLOW}, status="302 Found", headers=["Location: /"]),
    ],
)  # fmt: skip
async def test_any_opa_response_raises_nothing_and_allows_nothing(make_pdp, kind, short_path, raw):
    async with faulty(kind, always(raw), short_path) as server:
        pdp = make_pdp(opa_url=server.url)
        decision = await pdp.authorize("alice", tool="search")
        assert (decision.allow, decision.reason) == (False, Reason.UNAVAILABLE)
        assert decision.libraries == ()
        assert decision.decision_id
        listed = await pdp.visible("alice", actions=[Action(name="search")])
        assert (listed.indices, listed.reason) == ((), Reason.UNAVAILABLE)


@pytest.mark.parametrize(
    "bearer",
    ["", " ", "a b", "x\ny", "é", "\ud800", "\x00", "x" * (8 * 1024 + 1), "x" * 10_000_000, "a.b.c", "..", "lct_"],
)  # fmt: skip
async def test_any_bearer_raises_nothing_and_allows_nothing(make_pdp, table_dataset, bearer):
    began = time.monotonic()
    decision = await make_pdp().authorize(bearer, tool="search")
    assert (decision.allow, decision.reason) == (False, Reason.INVALID_TOKEN)
    assert time.monotonic() - began < 10


@pytest.mark.parametrize("name", ['x"] ; true #', "../../data", "", "\x00", "🙂", "x" * 1_024])
async def test_any_tool_name_is_only_a_name(make_pdp, table_dataset, name):
    decision = await make_pdp().authorize("alice", tool=name)
    assert decision.reason is Reason.TOOL_NOT_ALLOWED
    assert (await make_pdp().authorize("everything", tool=name)).allow is True


async def test_arguments_over_a_mebibyte_are_denied_where_rules_read_them(
    make_pdp, plain_opa, kind
):
    pdp = make_pdp(opa_url=getattr(plain_opa, f"{kind}_url"))
    for reads, size, reason in [
        (True, 1 << 20, "unavailable"),
        (True, (1 << 20) - 1000, "ok"),
        (False, 1 << 20, "ok"),
        (False, 5 << 20, "ok"),
        (True, 1 << 20, "unavailable"),
    ]:
        plain_opa.set_dataset(make_dataset({"site": {"manifest": {"arguments": reads}}}))
        # The first call after a change may still go by what the answer before it said.
        for _ in range(2):
            decision = await pdp.authorize(
                "everything", tool="search", arguments={"text": "x" * size}
            )
        assert decision.reason == reason, (reads, size)


async def test_rule_on_arguments_decides_on_the_first_call(make_pdp, make_deployment):
    deployment = await make_deployment(
        site="""package site

deny contains {"action": action.name, "code": "quiet", "message": "Whisper."} if {
	some action in data.lictor.actions
	action.arguments.text == "loud"
}
"""
    )
    await deployment.add_user("ada")
    bearer = await deployment.create_token()
    await deployment.settle()
    for text, reason in [("loud", "site_rule"), ("soft", "ok"), ("loud", "site_rule")]:
        fresh = deployment.pdp()
        for _ in range(2):
            decision = await fresh.authorize(bearer, tool="say", arguments={"text": text})
            assert decision.reason == reason
    assert (await deployment.pdp().authorize(bearer, tool="say")).allow is True


async def test_jwt_refused_in_python_is_not_sent_to_opa(make_pdp, signer, team_claims):
    transport = Answers()
    decision = await make_pdp(opa_transport=transport).authorize(
        signer.token({**team_claims, "exp": 1_000, "iat": 1}), tool="search"
    )
    assert decision.reason is Reason.TOKEN_EXPIRED
    assert decision.reasons == ("token_expired",)
    assert (decision.epoch, decision.revision, decision.credential) == (None, None, None)
    assert transport.asked == []


async def test_response_older_than_one_seen_is_behind(make_pdp, plain_opa):
    pdp = make_pdp()
    plain_opa.set_dataset(make_dataset())
    assert (await pdp.authorize("alice", tool="search")).allow is True
    older = {"live": {"revision": 41}}
    plain_opa.set_dataset(make_dataset({"registry": older}))
    decision = await pdp.authorize("alice", tool="search")
    assert (decision.allow, decision.reason) == (False, Reason.BEHIND)
    assert (decision.epoch, decision.revision) == (1, 41)
    assert decision.libraries == ()
    listed = await pdp.visible("alice", actions=[Action(name="search")])
    assert (listed.indices, listed.reason) == ((), Reason.BEHIND)
    # Another that has seen nothing yet has no reason to doubt it.
    assert (await make_pdp().authorize("alice", tool="search")).allow is True
    plain_opa.set_dataset(make_dataset())
    assert (await pdp.authorize("alice", tool="search")).allow is True


async def test_older_epoch_is_behind_whatever_its_revision(make_pdp, plain_opa):
    pdp = make_pdp()
    epochs = {
        "heartbeat": {"epoch": 2},
        "live": {"epoch": 2, "revision": 40},
        "base": {"00": {"epoch": 2}},
    }
    plain_opa.set_dataset(make_dataset({"registry": epochs}))
    assert (await pdp.visible("alice", actions=[Action(name="search")])).indices == (0,)
    plain_opa.set_dataset(make_dataset())
    assert (await pdp.authorize("alice", tool="search")).reason is Reason.BEHIND
    plain_opa.set_dataset(make_dataset({"registry": epochs}))
    assert (await pdp.authorize("alice", tool="search")).allow is True


async def test_answers_that_overtake_each_other_are_not_behind(make_pdp):
    transport = Answers()
    pdp = make_pdp(opa_transport=transport, catch_up=0)
    slow = asyncio.ensure_future(pdp.authorize("alice", tool="search"))
    await until(lambda: len(transport.asked) == 1, "the first is sent")
    quick = asyncio.ensure_future(pdp.authorize("alice", tool="search"))
    await until(lambda: len(transport.asked) == 2, "the second is sent")
    transport.asked[1].set_result(at(1, 43))
    assert (await quick).allow is True
    transport.asked[0].set_result(at(1, 42))
    assert (await slow).allow is True
    # But a query that was sent afterwards is.
    late = asyncio.ensure_future(pdp.authorize("alice", tool="search"))
    await until(lambda: len(transport.asked) == 3, "the third is sent")
    transport.asked[2].set_result(at(1, 42))
    assert (await late).reason is Reason.BEHIND


async def test_response_without_data_keeps_the_version_seen(make_pdp, plain_opa):
    pdp = make_pdp()
    plain_opa.set_dataset(make_dataset())
    assert (await pdp.authorize("alice", tool="search")).allow is True
    plain_opa.set_dataset(make_dataset(without=["registry/live"]))
    assert (await pdp.authorize("alice", tool="search")).reason is Reason.STALE_DATA
    plain_opa.set_dataset(make_dataset())
    assert (await pdp.authorize("alice", tool="search")).allow is True


async def test_cancelled_calls_poison_no_connection(make_pdp, table_dataset, kind):
    pdp = make_pdp(opa_url=getattr(table_dataset, f"{kind}_url"))
    for turns in range(12):
        call = asyncio.ensure_future(pdp.authorize("alice", tool="search"))
        for _ in range(turns):
            await asyncio.sleep(0)
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
        decision = await pdp.authorize("no-tools", tool="search")
        assert decision.reason is Reason.TOOL_NOT_ALLOWED


async def test_two_hundred_callers_at_once_get_their_own_decisions(make_pdp, table_dataset, kind):
    pdp = make_pdp(opa_url=getattr(table_dataset, f"{kind}_url"), deadline=20)
    bearers = ["alice", "no-tools", "switched-off", "of-bob", None]
    wanted = ["ok", "tool_not_allowed", "token_deactivated", "user_disabled", "missing_token"]
    decisions = await asyncio.gather(
        *(pdp.authorize(bearers[n % 5], tool="search") for n in range(200))
    )
    assert [one.reason for one in decisions] == [wanted[n % 5] for n in range(200)]
    assert len({one.decision_id for one in decisions}) == 200


async def test_call_is_denied_when_opa_is_killed_during_it(make_deployment):
    deployment = await make_deployment()
    await deployment.add_user("ada")
    bearer = await deployment.create_token("ada")
    await deployment.settle()
    pdp = deployment.pdp()
    assert (await pdp.authorize(bearer, tool="search")).allow is True
    calls = [asyncio.ensure_future(pdp.authorize(bearer, tool="search")) for _ in range(50)]
    await until(lambda: any(call.done() for call in calls), "the first call is back")
    deployment.opa.kill()
    reasons = {one.reason for one in await asyncio.gather(*calls)}
    assert reasons <= {Reason.OK, Reason.UNAVAILABLE}
    assert Reason.UNAVAILABLE in reasons
    assert (await pdp.authorize(bearer, tool="search")).reason is Reason.UNAVAILABLE
    deployment.opa.start()

    async def allowed():
        return (await pdp.authorize(bearer, tool="search")).allow

    await until(allowed, "the same PDP is answered by the new process")


async def test_visible_shows_what_may_be_called(make_pdp, table_dataset, signer):
    pdp = make_pdp()
    names = ["search", "delete", "get_document", "list_libraries"]
    actions = [Action(name=name) for name in names]
    listed = await pdp.visible("alice", actions=actions)
    allowed = [n for n, name in enumerate(names) if (await pdp.authorize("alice", tool=name)).allow]
    assert list(listed.indices) == allowed == [0, 2]
    assert (listed.reason, listed.epoch, listed.revision) == ("ok", 1, 42)
    anonymous = await pdp.visible(None, actions=actions)
    assert (anonymous.indices, anonymous.reason) == ((3,), Reason.MISSING_TOKEN)


async def test_bad_bearer_sees_what_is_listable_and_keeps_its_reason(
    make_pdp, plain_opa, signer, team_claims
):
    listable = {"live": {"settings": {"listable": {"rejected": ["get_*"]}}}}
    plain_opa.set_dataset(make_dataset({"registry": listable}))
    pdp = make_pdp()
    actions = [Action(name="list_libraries"), Action(name="get_document")]
    expired = signer.token({**team_claims, "exp": 1_000, "iat": 1})
    listed = await pdp.visible(expired, actions=actions)
    assert (listed.indices, listed.reason) == ((1,), Reason.TOKEN_EXPIRED)


BEARERS = ["alice", "switched-off", "unknown", "run-out", "\ud800", "a.b.c", "of-bob", "alice"]


async def test_bearers_checked_together_have_the_reasons_of_each(
    make_pdp, table_dataset, signer, team_claims, tmp_path
):
    bearers = [*BEARERS, signer.token({**team_claims, "exp": 1_000, "iat": 1})]
    record = tmp_path / "decisions.jsonl"
    pdp = make_pdp(record=FileRecord(record))
    checked, state = await pdp.authenticate_all(bearers)
    together = record.read_text().splitlines()
    singly = [await pdp.authenticate(bearer) for bearer in bearers]
    assert checked == singly
    assert len({reason for _, reason in checked}) > 4
    assert state == await pdp.registry_state()
    assert state[:2] == (1, 42)
    assert len(together) == sum(reason is not Reason.OK for _, reason in checked)
    assert await pdp.authenticate_all([]) == ([], state)


async def test_bearers_checked_together_in_an_outage_keep_what_python_refuses(make_pdp):
    pdp = make_pdp(opa_url="unix:///nowhere/opa.sock")
    checked, state = await pdp.authenticate_all(["alice", "\ud800"])
    assert checked[0][1] is Reason.UNAVAILABLE
    assert checked[1] == await pdp.authenticate("\ud800")
    assert checked[1][1] is not Reason.UNAVAILABLE
    assert state is None


async def test_deadline_covers_all_bearers_checked_together(make_pdp):
    pdp = make_pdp(deadline=0.05, replay=HangingReplayGuard())
    checked, state = await pdp.authenticate_all(["alice", "bob"])
    assert [reason for _, reason in checked] == [Reason.UNAVAILABLE] * 2
    assert state is None


async def test_public_tool_is_allowed_without_opa_and_libraries(make_pdp):
    pdp = make_pdp(opa_url="unix:///nowhere/opa.sock")
    decision = pdp.allow_public(tool="get_health")
    assert decision.allow is True
    assert decision.libraries == ()
    assert decision.decision_id


async def test_outage_logs_one_line_without_the_bearer(make_pdp, caplog):
    await make_pdp(opa_url="unix:///nowhere/opa.sock").authorize("s3cret-bearer", tool="search")
    (line,) = caplog.messages
    assert line.startswith("pdp.unavailable code=opa_unreachable")
    assert "s3cret" not in caplog.text


@pytest.mark.parametrize("text", ["", " \n", "two words", "é", "a\x00b"])
def test_empty_token_file_is_a_configuration_error(real_verifier, tmp_path, text):
    path = tmp_path / "token"
    path.write_text(text)
    with pytest.raises(ConfigurationError, match="token"):
        PDP(opa_url="unix:///x", verifier=real_verifier, opa_token_file=path)


def test_token_file_that_is_missing_is_a_configuration_error(real_verifier, tmp_path):
    with pytest.raises(ConfigurationError, match="nothing"):
        PDP(opa_url="unix:///x", verifier=real_verifier, opa_token_file=tmp_path / "nothing")


async def test_pdp_that_is_closed_denies(make_pdp, table_dataset, kind):
    pdp = make_pdp(opa_url=getattr(table_dataset, f"{kind}_url"))
    async with pdp:
        assert (await pdp.authorize("alice", tool="search")).allow is True
    assert (await pdp.authorize("alice", tool="search")).reason is Reason.UNAVAILABLE


def test_errors_of_the_parts_become_denials():
    for error in (BearerRejected, OPAUnreachableError, ResponseUnusableError):
        assert error.code
    assert open_transport("http://[::1]:8181")


async def test_message_of_a_refused_bearer_names_what_is_wrong(make_pdp, signer, team_claims):
    bearer = signer.token(team_claims, kid="other")
    decision = await make_pdp().authorize(bearer, tool="search")
    assert (decision.allow, decision.reason) == (False, Reason.KEY_UNKNOWN)
    assert decision.message == "Unknown signing key kid='other'."
