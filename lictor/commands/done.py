"""The last step of every command that writes to the registry."""

import sys
from dataclasses import asdict
from typing import Any

from lictor.console import Common
from lictor.wait import WaitOptions
from registry import Team, Token
from registry.operations import Done


async def show_done(
    common: Common, done: Done[Any], *, waiting: WaitOptions | None = None, **secrets: str
) -> None:
    """Print what was done, and have it published.

    Published also when nothing changed: an earlier run may have failed to notify `lictor serve`.

    Args:
        common: the flags that every command has.
        done: what was done.
        waiting: where something was taken away, how long to wait for that to hold.
        secrets: shown this once, and so before anything else can fail.
    """
    version = {"epoch": done.version.epoch, "revision": done.version.revision}
    shown = {**as_shown(done.record), **secrets, **version}
    if waiting is not None and waiting.asked:
        await waiting.report_propagation(common, shown, done)
    else:
        common.show(shown)
        sys.stdout.flush()
        await common.wake(revoking=waiting is not None)


def as_shown(record: Any) -> dict[str, Any]:
    """A record's fields, under the names that a reader types."""
    shown = asdict(record)
    match record:
        case Token():
            return {"id": shown.pop("label"), **shown}
        case Team():
            # The jti is not a secret, but a reader would take it for one.
            del shown["active_jti"]
    return shown
