"""What `lictor status` is told of things that are wrong here."""

import pytest
from support.stack import until

from bundles.reconciler import Reconciler
from lictor.admin import Admin
from lictor.serving import serving
from registry import Setting

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(("roster", "told"), [("garbage", True), (None, False)])
async def test_that_it_is_not_known_who_is_there_is_told(settings, roster, told):
    if roster is not None:
        settings.bundles.mkdir(exist_ok=True)
        (settings.bundles / "fleet.json").write_text(roster)
    async with serving(settings):
        problems = (await Admin(settings.admin_socket).status())["problems"]
    assert any(line.startswith("instances: it is not known") for line in problems) is told


async def test_a_read_of_everything_that_is_late_is_told_before_it_is_stale(settings, monkeypatch):
    async def never(_):
        pass

    monkeypatch.setattr(Reconciler, "due", never)
    async with serving(settings) as running:
        admin = Admin(settings.admin_socket)
        assert not any("reconcile:" in line for line in (await admin.status())["problems"])
        async with running.registry.transaction(actor="tests", action="test") as tx:
            await tx.put(Setting(name="reconcile_limit", value=1))
        await running.publisher.look()

        async def told():
            return any("reconcile:" in line for line in (await admin.status())["problems"])

        await until(told, "it is told")
