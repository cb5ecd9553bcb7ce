"""Errors of rules in OPA: found, named by code, file and line, and never with OPA's message."""

import json
from dataclasses import replace

import pytest
from prometheus_client import CollectorRegistry
from support.plain_opa import free_port

from lictor.rule_errors import recent_errors
from mcp_plugin.metrics import Metrics
from pdp_client import Action, Decision, FileRecord, Reason
from pdp_client.exceptions import EvaluationError, ResponseUnusableError, RuleError
from pdp_client.opa.wire import decode_error

pytestmark = pytest.mark.anyio

CONFLICT = """package site

deny contains {"action": "search", "code": level, "message": "x"}

level := "low" if some action in data.lictor.actions

level := action.name if some action in data.lictor.actions
"""


class Observer:
    def __init__(self):
        self.seen = []

    def decided(self, action, decision, *, seconds):
        self.seen.append(decision)

    def listed(self, actions, visible, *, seconds):
        self.seen.append(visible)


@pytest.mark.parametrize("kind", ["unix", "tcp"])
async def test_conflict_of_two_rules_is_logged_recorded_and_counted(signed, tmp_path, caplog, kind):
    if kind == "tcp":
        address = f"http://127.0.0.1:{free_port()}"
        signed.opa.settings = replace(signed.opa.settings, address=address)
    signed.bundles.put_dataset(leave_out=["site"])
    signed.bundles.put_site(CONFLICT)
    signed.opa.start()
    await signed.bundles.wait_for_report("site", revision="site-1")
    for name in ("policy", "live", "heartbeat", "base-00"):
        await signed.bundles.wait_for_report(
            name, revision=signed.bundles.served_bundles.get(name).revision
        )
    path = tmp_path / "decisions.jsonl"
    pdp = signed.pdp(record=FileRecord(path))
    observer = Observer()
    pdp.observe(observer)
    caplog.clear()

    decision = await pdp.authorize("alice", tool="s3cret-name")
    visible = await pdp.visible("alice", actions=[Action(name="search")])

    failed = RuleError("eval_conflict_error", "site/rules.rego", 7)
    assert (decision.allow, decision.reason) == (False, Reason.UNAVAILABLE)
    assert decision.errors == visible.errors == (failed,)
    assert [one.errors for one in observer.seen] == [(failed,), (failed,)]
    assert "code=evaluation_failed" in caplog.text
    assert "eval_conflict_error at site/rules.rego:7" in caplog.text
    assert "s3cret-name" not in caplog.text
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    reported = {"code": "eval_conflict_error", "file": "site/rules.rego", "row": 7}
    assert [line["errors"] for line in lines] == [[reported], [reported]]
    displayed = recent_errors(path)
    assert (displayed["failed"], displayed["decisions"]) == (2, 2)
    assert {**reported, "at": lines[-1]["at"]} == displayed["last"]


def test_errors_are_counted_by_the_codes_of_opa():
    registry = CollectorRegistry()
    metrics = Metrics(registry)
    errors = (RuleError("eval_conflict_error", "x.rego", 1), RuleError("other", "", 0))
    decision = Decision(
        allow=False, reason=Reason.UNAVAILABLE, reasons=(), message="", errors=errors
    )
    metrics.decided(Action(name="x"), decision, seconds=0)
    for code in ("eval_conflict_error", "other"):
        assert registry.get_sample_value("lictor_rule_errors_total", {"code": code}) == 1


def body(errors):
    return json.dumps({"code": "internal_error", "message": "secret", "errors": errors}).encode()


@pytest.mark.parametrize(
    "raw",
    [
        b"", b"x", b"[]", b"null", b'{"errors": 7}', b'{"errors": []}', b'{"errors": {}}', body([7]),
        body(["x"]), body([None]), body([{}]), b"\xff", b"[" * 100_000, b'{"errors": [{"code": NaN}]}',
    ],
)  # fmt: skip
def test_body_that_names_no_error_is_unusable(raw):
    error = decode_error(500, raw)
    assert type(error) is ResponseUnusableError
    assert str(error) == "HTTP 500"


@pytest.mark.parametrize(
    ("raw", "wanted"),
    [
        ({"code": "eval_type_error", "location": {"file": "a", "row": 3}}, RuleError("eval_type_error", "a", 3)),
        ({"code": "eval_type_error", "location": {"file": "/site/a.rego"}}, RuleError("eval_type_error", "site/a.rego", 0)),
        ({"code": "eval_type_error", "location": {"file": "site/site/a.rego"}}, RuleError("eval_type_error", "site/a.rego", 0)),
        ({"code": "evil\n", "location": {"file": "a\nb", "row": 3}}, RuleError("other", "a\N{REPLACEMENT CHARACTER}b", 3)),
        ({"code": 7, "location": {"file": 7, "row": "3"}}, RuleError("other", "", 0)),
        ({"code": ["x"], "location": [1]}, RuleError("other", "", 0)),
        ({"code": "eval_type_error"}, RuleError("eval_type_error", "", 0)),
        ({"code": "eval_type_error", "location": {"row": True}}, RuleError("eval_type_error", "", 0)),
        ({"code": "eval_type_error", "location": {"row": -1}}, RuleError("eval_type_error", "", 0)),
        ({"code": "eval_type_error", "location": {"row": 10**400}}, RuleError("eval_type_error", "", 0)),
        ({"code": "eval_type_error", "location": {"file": "f" * 10_000}}, RuleError("eval_type_error", "f" * 256, 0)),
    ],
)  # fmt: skip
def test_opa_error_text_is_bounded_and_printable(raw, wanted):
    error = decode_error(500, body([raw] * 100))
    assert type(error) is EvaluationError
    assert error.errors == (wanted,) * 8
    assert "secret" not in str(error)
    assert "\n" not in str(error)


def test_records_without_errors_show_none(tmp_path):
    assert recent_errors(tmp_path / "none") is None
    path = tmp_path / "decisions.jsonl"
    path.write_bytes(b'{"at": 1}\n\xff\n[]\n{"at": 2, "errors": []}\n{"at": 3, "errors": 7}\n{"at"')
    assert recent_errors(path) is None
