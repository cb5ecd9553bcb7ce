"""What `lictor status` reports of problems of this server."""

import json

import pytest
from support.waiting import until

from bundles.publish.reconciler import Reconciler
from lictor.admin import Admin
from lictor.commands.fleet import status
from lictor.console import Common
from lictor.server import serving
from registry import Setting

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(("roster", "reported"), [("garbage", True), (None, False)])
async def test_status_reports_unknown_instances(settings, roster, reported):
    if roster is not None:
        settings.bundles.mkdir(exist_ok=True)
        (settings.bundles / "fleet.json").write_text(roster)
    async with serving(settings):
        problems = (await Admin(settings.admin_socket).status())["problems"]
    assert any(line.startswith("instances: it is not known") for line in problems) is reported


async def test_status_reports_a_late_full_read_before_it_is_stale(settings, monkeypatch):
    async def never(_):
        pass

    monkeypatch.setattr(Reconciler, "due", never)
    async with serving(settings) as running:
        admin = Admin(settings.admin_socket)
        assert not any("reconcile:" in line for line in (await admin.status())["problems"])
        async with running.registry.transaction(actor="tests", action="test") as tx:
            await tx.put(Setting(name="reconcile_limit", value=1))
        await running.publisher.sync()

        async def reported():
            return any("reconcile:" in line for line in (await admin.status())["problems"])

        await until(reported, "it is reported")


async def test_status_shows_failed_rules_with_their_place(settings, capsys):
    failed = {"code": "eval_conflict_error", "file": "site/site/rules.rego", "row": 7}
    lines = [{"at": 1.0, "reason": "ok"}, {"at": 2.0, "errors": [failed]}]
    settings.record.write_text("".join(json.dumps(line) + "\n" for line in lines))
    async with serving(settings):
        await status(common=Common(state=settings.state, format="json"))
        printed = json.loads(capsys.readouterr().out)["rule_errors"]
        assert printed == {"failed": 1, "decisions": 2, "last": {**failed, "at": 2.0}}
        await status(common=Common(state=settings.state))
    reported = capsys.readouterr()
    assert "1 of the last 2 recorded decisions" in reported.err
    assert "eval_conflict_error at site/site/rules.rego:7" in reported.err
