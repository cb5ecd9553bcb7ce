"""A read of the whole registry into a spool: one file a shard, in bounded memory.

It is what a first publication is made from, and what a reconciling read compares with. A store may
be written to while it is read: what changed meanwhile is laid over it at the end, so that the spool
is the registry as it was at one revision.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import ExitStack, aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bundles.publish.records import RecordValidator, has_valid_id, shard_of
from bundles.publish.shards import run_in_process, spool_line
from registry import Ref, Registry, RegistryVersion

Opener = Callable[[], Awaitable[Registry]]
"""Opens the registry once more; a `functools.partial` of `open_registry`, to cross to a process."""

ReportProgress = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and about how much there is."""

SMALL = 20_000
"""Records up to which one shard serves, and a read is not worth a process of its own."""

_BATCH = 250
"""Records between two rests: a few milliseconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scan:
    """The result of a scan.

    Attributes:
        version: the one state of the registry that the spool holds.
        head: the hash of the log's newest entry at that state.
        settings: the settings then; those that are not JSON values are left out.
        records: how many records were read.
        seconds: how long it took.
        problems: the records that do not fit, and why; in the spool they are null.
    """

    version: RegistryVersion
    head: str
    settings: Mapping[str, Any]
    records: int
    seconds: float
    problems: Mapping[Ref, str]


def spool_of(folder: Path, shard: str) -> Path:
    """The file that a shard's records are spooled to."""
    return folder / f"{shard}.jsonl"


class RegistryReader:
    """Reads the whole registry, wherever that is best done."""

    def __init__(
        self,
        registry: Registry,
        *,
        opener: Opener | None = None,
        progress: ReportProgress = lambda *_: None,
    ) -> None:
        """Create the reader.

        Args:
            registry: what is read.
            opener: opens it once more, so that a large one can be read in a process of its own.
            progress: called as the read goes on.
        """
        self._registry = registry
        self._opener = opener
        self.progress = progress

    async def read(self, folder: Path, *, shards: int, total: int, rest: float = 0.0) -> Scan:
        """Read everything into an empty folder; see `scan`.

        Args:
            folder: where the spool is written.
            shards: how many files to spread the records over.
            total: about how many records there are.
            rest: seconds to rest for each second of reading.
        """
        if self._opener is None or total < SMALL:
            return await scan(self._registry, folder, shards=shards)
        reading = asyncio.ensure_future(
            run_in_process(_scan_in_process, self._opener, folder, shards, rest)
        )
        while not reading.done():
            self.progress("reading the registry", _progress_of(folder), total)
            await asyncio.wait([reading], timeout=0.5)
        return reading.result()


def _progress_of(folder: Path) -> int:
    try:
        return int((folder / "progress").read_text())
    except (OSError, ValueError):
        return 0


async def scan(registry: Registry, folder: Path, *, shards: int, rest: float = 0.0) -> Scan:
    """Read everything.

    Args:
        registry: what is read.
        folder: an empty folder, where the spool is written.
        shards: how many files to spread the records over.
        rest: seconds to rest for each second of reading, to leave the machine to others.

    Raises:
        RegistryError: it cannot be read.
    """
    validator, count, began = RecordValidator(), 0, time.monotonic()
    worked_from = began
    with ExitStack() as files:
        spools = {
            f"{n:02x}": files.enter_context(spool_of(folder, f"{n:02x}").open("wb"))
            for n in range(shards)
        }

        def write(ref: Ref, record: Any) -> None:
            record = validator.validate(ref, record)
            if has_valid_id(ref):
                spools[shard_of(ref, shards)].write(spool_line(ref, record))

        async with registry.export_records() as export:
            async for ref, record in export.records:
                write(ref, record)
                count += 1
                if count % _BATCH == 0:
                    worked = time.monotonic() - worked_from
                    await asyncio.sleep(worked * rest)
                    worked_from = time.monotonic()
                    if count % (40 * _BATCH) == 0:
                        (folder / "progress").write_text(str(count))
        delta = await registry.changed_since(export.version.revision)
        for ref, change in delta.changes.items():
            write(ref, change.record)
    return Scan(
        version=delta.version,
        head=delta.head,
        settings=validator.valid_settings(delta.settings),
        records=count,
        seconds=time.monotonic() - began,
        problems=validator.problems,
    )


def _scan_in_process(opener: Opener, folder: Path, shards: int, rest: float) -> Scan:
    async def run() -> Scan:
        async with aclosing(await opener()) as registry:
            return await scan(registry, folder, shards=shards, rest=rest)

    return asyncio.run(run())
