"""`lictor serve` with handles for a test: `python -m tests.system.faults.server FOLDER serve …`.

In FOLDER, `clock` (a double) is added to what this process takes for the time, and where `die` names a step
(`after:Store.save`, `before:ServedBundles.put live`, …) the process kills itself there, as `kill -9` does. The
heartbeat comes each second in place of each five, and a lease lasts two seconds in place of six, so that a limit
of three seconds can be kept and a trial is over in a few.
"""

import functools
import inspect
import mmap
import os
import signal
import struct
import sys
import time
from pathlib import Path

STEPS = (
    "before:SqliteStore.changed_since", "after:SqliteStore.changed_since", "after:LiveRecords.apply",
    "before:Publisher._signed live", "after:Publisher._signed live",
    "before:Store.save live", "after:Store.save live",
    "before:ServedBundles.put live", "after:ServedBundles.put live",
    "before:ServedBundles.put heartbeat", "after:ServedBundles.put heartbeat",
    "before:Announcer.announce", "after:Announcer.announce",
    "before:BaseBundles.compact", "before:Store.save base-00", "after:Store.save base-00",
    "before:Store.save_published", "after:Store.save_published", "before:ServedBundles.put base-00",
)  # fmt: skip
"""Where a publisher can be killed: at each step of a publication, and of a compaction."""

HEARTBEAT_EVERY, LEASE = 1.0, 2.0


def shifted_clock(path):
    """Have `time.time` add what stands in a file, which a test may change at any moment."""
    with path.open("r+b") as file:
        offset = mmap.mmap(file.fileno(), 8)
    real, real_ns = time.time, time.time_ns
    time.time = lambda: real() + struct.unpack("d", offset[:8])[0]
    time.time_ns = lambda: real_ns() + int(struct.unpack("d", offset[:8])[0] * 1e9)


def deadly(path):
    """Wrap each of the steps."""
    from bundles.publish.base_bundles import BaseBundles
    from bundles.publish.live_records import LiveRecords
    from bundles.publish.publisher import Publisher
    from bundles.publish.store import Store
    from bundles.serve.served_bundles import ServedBundles
    from lictor.announcer import Announcer
    from registry.sqlite.store import SQLiteRegistry

    owners = {
        "SqliteStore": SQLiteRegistry, "LiveRecords": LiveRecords, "Publisher": Publisher, "Store": Store,
        "ServedBundles": ServedBundles, "Announcer": Announcer, "BaseBundles": BaseBundles,
    }  # fmt: skip
    for name in {step.partition(":")[2].partition(" ")[0] for step in STEPS}:
        owner, _, method = name.partition(".")
        setattr(owners[owner], method, _wrapped(getattr(owners[owner], method), name, path))


def _wrapped(function, name, path):
    def step(when, arguments):
        try:
            wanted = path.read_text()
        except OSError:
            return
        subject = getattr(arguments[0], "name", arguments[0]) if arguments else ""
        if wanted in {f"{when}:{name}", f"{when}:{name} {subject}"}:
            path.rename(path.with_name("died"))
            os.kill(os.getpid(), signal.SIGKILL)

    if inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def awaited(self, *arguments, **named):
            step("before", arguments)
            result = await function(self, *arguments, **named)
            step("after", arguments)
            return result

        return awaited

    @functools.wraps(function)
    def called(self, *arguments, **named):
        step("before", arguments)
        result = function(self, *arguments, **named)
        step("after", arguments)
        return result

    return called


def main():
    folder = Path(sys.argv.pop(1))
    # Before anything has taken the clock for a default.
    shifted_clock(folder / "clock")
    import bundles.publish.publisher
    from bundles.cluster.lease import Lease
    from lictor.cli import main as lictor

    bundles.publish.publisher.HEARTBEAT_EVERY = HEARTBEAT_EVERY
    Lease.__init__.__kwdefaults__["ttl"] = LEASE
    deadly(folder / "die")
    sys.exit(lictor())


if __name__ == "__main__":
    main()
