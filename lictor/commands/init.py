"""`lictor init`: a new state directory."""

import getpass

from lictor.console import Common
from lictor.state_dir import initialise

_DEFAULT = Common()


async def init(*, common: Common = _DEFAULT) -> None:
    """Make a state directory with keys, settings and an empty registry."""
    await initialise(common.settings, actor=getpass.getuser())
    common.show({"state": str(common.settings.state), "next": "lictor serve"})
