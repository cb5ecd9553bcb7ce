"""What `lictor status` is told of things that are wrong here."""

import pytest

from lictor.admin import Admin
from lictor.serving import serving

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(("roster", "told"), [("garbage", True), (None, False)])
async def test_that_it_is_not_known_who_is_there_is_told(settings, roster, told):
    if roster is not None:
        settings.bundles.mkdir(exist_ok=True)
        (settings.bundles / "fleet.json").write_text(roster)
    async with serving(settings):
        problems = (await Admin(settings.admin_socket).status())["problems"]
    assert any(line.startswith("instances: it is not known") for line in problems) is told
