"""Each decision is on record before it takes effect: whole lines, no secrets, enough to repeat the query."""

import json
import multiprocessing
from contextlib import aclosing

import pytest
from support.faults import largest_file
from support.plain_opa import make_dataset

from pdp_client import PDP, BearerVerifier, FileRecord
from pdp_client.decision import Action, Context, Decision
from pdp_client.exceptions import RecordFailed
from pdp_client.opa.transport import open_transport
from pdp_client.reasons import Reason
from pdp_client.record import arguments_hash, entry

pytestmark = pytest.mark.anyio


@pytest.fixture
def path(tmp_path):
    return tmp_path / "decisions.jsonl"


@pytest.fixture
async def make_pdp(plain_opa, team_keys, turn_keys):
    """PDPs that query a real OPA with the table's dataset."""
    from pdp_client import Issuer

    plain_opa.set_dataset(make_dataset())
    made = []

    def make(record, **kwargs):
        verifier = BearerVerifier([Issuer("mnemosyne", team_keys), Issuer("daedalus", turn_keys)])
        kwargs.setdefault("opa_url", plain_opa.unix_url)
        made.append(PDP(verifier=verifier, record=record, deadline=5, **kwargs))
        return made[-1]

    yield make
    for pdp in made:
        await pdp.aclose()


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


class FailingRecord:
    """A record that takes nothing."""

    def write(self, entry):
        raise RecordFailed("the disk is full")

    def close(self):
        pass


async def test_decision_is_recorded_before_it_is_returned(make_pdp, path):
    pdp = make_pdp(FileRecord(path), server="library")
    decision = await pdp.authorize("alice", tool="search", tags=["read"], transport="http")
    (line,) = lines(path)
    assert line["id"] == decision.decision_id != ""
    assert line["allow"] is True
    assert line["reason"] == "ok"
    assert line["reasons"] == ["ok"]
    assert line["libraries"] == ["lib-a", "lib-b"]
    assert line["principal"] == "mcptoken:lct_…2bd806c9"
    assert line["action"] == {"method": "tools/call", "name": "search", "tags": ["read"]}
    assert line["context"] == {"server": "library", "transport": "http"}
    assert (line["epoch"], line["revision"]) == (1, 42)
    assert line["data_age_ms"] >= 0
    assert line["took_ms"] > 0


async def test_every_kind_of_decision_is_on_record(make_pdp, path):
    pdp = make_pdp(FileRecord(path))
    bearers = [None, "alice", "no-tools", "not a bearer\n", "lct_" + "0" * 49]
    decisions = [await pdp.authorize(bearer, tool="search") for bearer in bearers]
    decisions.append(pdp.allow_public(tool="get_health"))
    decisions.append(
        await make_pdp(FileRecord(path), opa_url="unix:///nowhere").authorize(
            "alice", tool="search"
        )
    )
    on_record = lines(path)
    assert [line["id"] for line in on_record] == [one.decision_id for one in decisions]
    assert [line["reason"] for line in on_record] == [
        "missing_token", "ok", "tool_not_allowed", "invalid_token", "invalid_token", "ok", "unavailable",
    ]  # fmt: skip
    assert len({line["id"] for line in on_record}) == len(on_record)


async def test_record_holds_no_bearer_and_no_argument(make_pdp, path, signer, team_claims):
    pdp = make_pdp(FileRecord(path))
    jwt = signer.token(team_claims)
    arguments = {"query": "my-secret-query", "nested": [{"deep": "my-secret-too"}]}
    for bearer in ("alice", jwt, jwt[:-4] + "AAAA", "refused bearer", "lct_" + "0" * 49):
        await pdp.authorize(bearer, tool="search", arguments=arguments)
    text = path.read_text()
    assert '"alice"' not in text
    assert "my-secret" not in text
    for part in jwt.split("."):
        assert part not in text
    assert "refused bearer" not in text
    assert "lct_0" not in text
    assert [line["arguments_hash"] for line in lines(path)] == [arguments_hash(arguments)] * 5


async def test_record_line_is_enough_to_repeat_the_query(make_pdp, path, plain_opa):
    pdp = make_pdp(FileRecord(path))
    for bearer in (None, "alice", "switched-off", "of-bob"):
        await pdp.authorize(bearer, tool="get_document", tags=["read"])
    async with aclosing(open_transport(plain_opa.unix_url)) as transport:
        for line in lines(path):
            sent = {key: line[key] for key in ("credential", "action", "context")}
            again = await transport.query("decision", sent)
            for field in ("allow", "reason", "reasons", "libraries", "epoch", "revision"):
                assert again[field] == line[field]


async def test_record_tells_a_refused_bearer_from_none(make_pdp, path):
    pdp = make_pdp(FileRecord(path))
    await pdp.authorize(None, tool="search")
    await pdp.authorize("not a bearer", tool="search")
    assert [line["credential"] for line in lines(path)] == [
        {"kind": "anonymous"},
        {"kind": "anonymous", "rejected": True},
    ]


async def test_record_that_fails_turns_an_allow_into_an_outage(make_pdp):
    pdp = make_pdp(FailingRecord())
    decision = await pdp.authorize("alice", tool="search")
    assert decision.allow is False
    assert decision.reason is Reason.UNAVAILABLE
    assert decision.libraries == ()
    assert pdp.allow_public(tool="get_health").allow is False


async def test_record_failure_keeps_a_denial(make_pdp):
    pdp = make_pdp(FailingRecord())
    assert (await pdp.authorize("no-tools", tool="search")).reason is Reason.TOOL_NOT_ALLOWED
    assert (await pdp.authorize(None, tool="search")).reason is Reason.MISSING_TOKEN


async def test_closed_record_denies(make_pdp, path):
    record = FileRecord(path)
    record.close()
    record.close()
    decision = await make_pdp(record).authorize("alice", tool="search")
    assert decision.reason is Reason.UNAVAILABLE


async def test_tags_that_are_not_json_are_denied(make_pdp, path):
    pdp = make_pdp(FileRecord(path))
    decision = await pdp.authorize("alice", tool="search", tags=[b"read"])
    assert decision.reason is Reason.UNAVAILABLE
    assert (await pdp.authorize("alice", tool="search")).allow is True
    assert [line["reason"] for line in lines(path)] == ["ok"]


@pytest.mark.parametrize("odd", [{"q": float("nan")}, {"q": b"x"}, {"q": {1, 2}}, {(1, 2): 3}])
async def test_arguments_that_are_not_json_are_denied_where_rules_read_them(
    make_pdp, plain_opa, path, odd
):
    pdp = make_pdp(FileRecord(path))
    for reads, reason in [(False, "ok"), (True, "unavailable")]:
        plain_opa.set_dataset(make_dataset({"site": {"manifest": {"arguments": reads}}}))
        decision = await pdp.authorize("alice", tool="search", arguments=odd)
        assert decision.reason == reason
    assert [line["reason"] for line in lines(path)] == ["ok", "unavailable"]


def test_record_file_is_private_and_appended_to(path):
    for _ in range(2):
        record = FileRecord(path)
        record.write({"a": 1})
        record.close()
    assert path.stat().st_mode & 0o777 == 0o600
    assert lines(path) == [{"a": 1}] * 2


def test_unwritable_record_file_is_named(tmp_path):
    with pytest.raises(RecordFailed, match="no/such/folder"):
        FileRecord(tmp_path / "no/such/folder/decisions.jsonl")


def test_line_that_did_not_fit_is_an_error_and_spoils_no_other(path):
    record = FileRecord(path)
    record.write({"n": 1})
    with largest_file(path.stat().st_size + 5):
        with pytest.raises(RecordFailed):
            record.write({"n": 2})
        with pytest.raises(RecordFailed):
            record.write({"n": 2})
    record.write({"n": 3})
    record.write({"n": 4})
    first, torn, *rest = path.read_text().splitlines()
    assert json.loads(first) == {"n": 1}
    assert torn == '{"n":'
    assert [json.loads(line) for line in rest] == [{"n": 3}, {"n": 4}]
    record.close()


def _write_many(path, writer):
    record = FileRecord(path)
    for number in range(200):
        record.write({"writer": writer, "number": number, "padding": "x" * 4000})
    record.close()


def test_several_processes_append_whole_lines(path):
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_write_many, args=(path, n)) for n in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert {(line["writer"], line["number"]) for line in lines(path)} == {
        (writer, number) for writer in range(3) for number in range(200)
    }


def test_arguments_are_hashed_by_value():
    assert arguments_hash({"a": 1, "b": 2}) == arguments_hash({"b": 2, "a": 1})
    assert arguments_hash({"a": 1}) != arguments_hash({"a": "1"})
    assert arguments_hash({}) != arguments_hash(None) is None


def test_entry_is_json():
    decision = Decision.refused(Reason.UNAVAILABLE)
    made = entry(decision, at=1.0, took_ms=2.0, action=Action(name="x"), context=Context())
    assert json.loads(json.dumps(made)) == made
