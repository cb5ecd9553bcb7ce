"""The publisher: what changed in the registry becomes signed bundles, in order, at once.

`base-NN` hold the registry as of some revision, cut into shards; `live` holds every record that
has changed since; the heartbeat says up to when all of that is known to be everything.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from bundles.exceptions import BundleError, PublishingHeldError
from bundles.fleet.tracker import FleetTracker
from bundles.publish import scan
from bundles.publish.base_bundles import BaseBundles
from bundles.publish.heartbeat import Heartbeat
from bundles.publish.live_records import LiveRecords
from bundles.publish.policy_releases import PolicyReleases
from bundles.publish.records import RecordValidator, shard_of
from bundles.publish.rollback_guard import RollbackGuard, format_version, state_in
from bundles.publish.scan import RegistryReader, Scan
from bundles.publish.signing import Bundle, SigningKey, canonical_records, sign
from bundles.publish.store import Published, Store
from bundles.publish.target import PublishTarget
from lictor_common.periodic import run_periodically
from registry import Delta, Ref, Registry, RegistryError, RegistryVersion

SYNC_EVERY = 1.0
HEARTBEAT_EVERY = 5.0
_log = logging.getLogger(__name__)


class Publisher:
    """Publishes one registry. There must be one publisher at a time."""

    def __init__(
        self,
        registry: Registry,
        *,
        store: Store,
        served_bundles: PublishTarget,
        key: SigningKey,
        fleet: FleetTracker,
        shards: int | None = None,
        live_limit: int = 250,
        reader: RegistryReader | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Create the publisher; it reads and writes nothing before `start`.

        Args:
            registry: what is published.
            store: keeps what was published over a restart.
            served_bundles: serves it.
            key: signs it.
            fleet: says when a base has arrived everywhere.
            shards: 1 to 64, for a new epoch; by default by the registry's size.
            live_limit: records in `live` above which they are compacted into their shards.
            reader: reads all of the registry; by default in this process.
            clock: seconds since 1970.
        """
        self._registry = registry
        self._store = store
        self._served_bundles = served_bundles
        self._key = key
        self._shards = shards
        self._live_limit = live_limit
        self.reader = reader or RegistryReader(registry)
        self._clock = clock
        # `_basing` before `_looking`, where both are held.
        self._base_lock, self._sync_lock = asyncio.Lock(), asyncio.Lock()
        self._policies = PolicyReleases(store, served_bundles, clock=clock)
        self._validator = RecordValidator()
        self.bases = BaseBundles(
            store,
            served_bundles,
            key=key,
            fleet=fleet,
            may_pack=self._policies.decode_records,
            clock=clock,
        )
        self.live = LiveRecords({}, self._validator)
        self.heartbeat = Heartbeat(clock=clock)
        self._rollback_guard = RollbackGuard(RegistryVersion(0, -1))
        self._live_from: int | None = None
        self._unpublished = False
        self._reconciling: tuple[float, set[str]] = 0.0, set()
        self.failing = ""

    @property
    def problems(self) -> Mapping[Ref, str]:
        """Records that were published as `null`, or settings left out, and why."""
        return self._validator.problems

    @property
    def version(self) -> RegistryVersion:
        """The state of the registry that `live` has reached."""
        return self._rollback_guard.version

    @property
    def held(self) -> str:
        """Why nothing of the registry is published any more; empty while it is."""
        return self._rollback_guard.held

    async def start(self) -> None:
        """Go on from what was published before, or publish everything; then the heartbeat.

        Where the registry does not answer, or was put back to an earlier state, what was published
        before is served on, and OPA answers `stale_data` once it is too old.

        Raises:
            RegistryError: the registry cannot be read, and nothing was published before.
            StoreUnusableError: bundles cannot be kept.
        """
        self._store.sweep()
        released = self._policies.refresh()
        if await asyncio.to_thread(self.bases.resume) and await self._resume():
            try:
                await self.sync()
            except (RegistryError, PublishingHeldError) as error:
                _log.error("publisher.failed code=%s error=%s", error.code, error)
        else:
            await self._rebuild(anew=True)
            await self.sync()
        if released or self._served_bundles.get("heartbeat") is None:
            self.publish_heartbeat()

    async def run(self) -> None:
        """Sync, publish heartbeats and compact until cancelled; log what fails, and retry."""
        heartbeat_at = time.monotonic()

        def heartbeat_if_due() -> None:
            nonlocal heartbeat_at
            if time.monotonic() - heartbeat_at >= HEARTBEAT_EVERY:
                heartbeat_at = time.monotonic()
                self.publish_heartbeat()

        async def sync_and_heartbeat() -> None:
            try:
                await self.sync()
            except Exception:
                # Also when nothing could be read: it says how old everything is by now. Not when
                # cancelled: an error of the heartbeat would take the cancellation's place.
                heartbeat_if_due()
                raise
            heartbeat_if_due()

        async with asyncio.TaskGroup() as group:
            repeat = partial(run_periodically, on_error=log_failure)
            group.create_task(repeat(sync_and_heartbeat, every=SYNC_EVERY))
            group.create_task(repeat(self.compact, every=self._until_next_compaction))

    async def sync(self) -> None:
        """Publish what has changed by now; a new policy bundle too, with a heartbeat that names it.

        Raises:
            RegistryError: the registry cannot be read; nothing was published.
            PublishingHeldError: it is not the one that was published before.
            StoreUnusableError: a bundle could not be kept, and so is not served.
        """
        try:
            async with self._sync_lock:
                self.heartbeat.watch_clock()
                started = self._clock()
                version = await self._registry.version()
                anew = version.epoch > self.bases.published.epoch
                if not anew:
                    await self._advance(version)
            if anew:
                await self._rebuild()
        except (RegistryError, BundleError) as error:
            self.failing = f"{error.code}: {error}"
            raise
        self.failing = ""
        self.heartbeat.synced_at = started
        if self._policies.refresh() or anew:
            self.publish_heartbeat()

    def publish_heartbeat(self) -> None:
        """Publish a heartbeat that says how far everything is known to be published."""
        published = self.bases.published
        document = self.heartbeat.document(
            epoch=published.epoch,
            reconciled_at=published.reconciled_at,
            accepted=self._policies.accepted(),
        )
        self._served_bundles.put(
            self._signed("heartbeat", f"{self.heartbeat.synced_at:.3f}", document)
        )
        self._policies.serve()

    async def compact(self, *, at_once: bool = False) -> str | None:
        """Move one shard's records from `live` into its base, where `live` is past its limit.

        `live` keeps the records until every OPA runs the new base: dropping them sooner would bring
        a revoked record back to an OPA that still has the old one.

        Bases of an older version are written anew, one by one, once all rules decode records.

        Args:
            at_once: compact the fullest shard, whatever the size of `live`.

        Returns:
            The shard that was compacted, or None.
        """
        async with self._base_lock:
            fullest = self.live.fullest(besides=self.bases.pending)
            if fullest is not None and (fullest[1] > self._live_limit or at_once):
                shard: str | None = fullest[0]
            else:
                shard = self.bases.to_pack()
            if shard is not None:
                changes = self.live.of_shard(shard)
                await self.bases.compact(shard, self._rollback_guard.header, changes)
            return shard

    def _until_next_compaction(self) -> float:
        """Seconds. The fuller `live`, the longer OPA takes over each one: the sooner."""
        return SYNC_EVERY * min(1.0, self._live_limit / max(1, len(self.live)))

    async def accept(self, *, actor: str) -> RegistryVersion:
        """Take a registry that was put back to an earlier state for what it is now.

        It starts an epoch that nothing was published in: whatever an OPA has of the other past no
        longer counts.
        """
        while (await self._registry.version()).epoch <= self.bases.published.epoch:
            async with self._registry.transaction(actor=actor, action="registry accept") as tx:
                await tx.next_epoch()
        await self.sync()
        return self.version

    async def publish_external(
        self,
        folder: Path,
        read: Scan,
        refs: Sequence[Ref],
        *,
        began_at: float,
        damaged: Mapping[Ref, str],
    ) -> None:
        """Publish records that were changed in the store by other means than `lictor`.

        As many as `live` can hold are effective at once; where there are more, their shards are
        written anew from the scan that found them.

        Args:
            folder: where the scan has spooled the registry.
            read: the scan.
            refs: the records that differ from what is published.
            began_at: when the scan began, in seconds since 1970.
            damaged: what was published in a form that OPA refuses, and why.

        Raises:
            RegistryError: the registry cannot be written or read.
            StoreUnusableError: a bundle could not be kept.
        """
        if refs:
            async with self._registry.transaction(actor="lictor", action="reconcile") as tx:
                await tx.touch(*refs[: self._live_limit])
            await self.sync()
        rest = {shard_of(ref, len(self.live.since)) for ref in refs[self._live_limit :]}
        async with self._base_lock:
            for shard in sorted(rest):
                changes = self.live.of_shard(shard, after=read.version.revision)
                await self.bases.rewrite(folder, shard, self._rollback_guard.header, changes)
        newer = {
            ref
            for shard in self.live.since
            for ref in self.live.of_shard(shard, after=read.version.revision)
        }
        self._validator.problems = {
            **damaged,
            **{ref: why for ref, why in read.problems.items() if ref not in newer},
            **{ref: why for ref, why in self._validator.problems.items() if ref in newer},
        }
        self._reconciling = began_at, rest
        self._note_reconciled()

    def _note_reconciled(self) -> None:
        """The newest read of everything counts once all of it has arrived."""
        began_at, shards = self._reconciling
        if began_at and not shards & self.bases.pending.keys():
            self._reconciling = 0.0, set()
            self.bases.reconciled(began_at)

    async def _advance(self, version: RegistryVersion) -> None:
        """Publish `live` if the registry has moved, or a new base has arrived everywhere."""
        before = self._rollback_guard.version
        since = before.revision if self._live_from is None else self._live_from
        moved = version != before or self._live_from is not None
        # Together: each is a round trip that a revocation waits for.
        delta, _ = await asyncio.gather(
            self._changes(since, moved=moved), self._rollback_guard.check(self._registry, version)
        )
        activated = self.bases.activated()
        for shard, revision in activated.items():
            self.live.drop_through(shard, revision)
        if activated:
            self._unpublished = True
            self._note_reconciled()
        if delta is not None:
            self.live.apply(delta)
            self._rollback_guard.reach(delta.version, delta.head)
            self._live_from = None
            self._unpublished = True
        if self._unpublished:
            self._publish_live()

    async def _changes(self, since: int, *, moved: bool) -> Delta | None:
        return await self._registry.changed_since(since) if moved else None

    def _publish_live(self) -> None:
        document = {**self.live.document(), **self._rollback_guard.header}
        bundle = self._signed("live", format_version(self.version), document)
        # Should a power cut take it, it is made anew from the registry.
        self._store.save(bundle, durable=False)
        self._served_bundles.put(bundle)
        self.heartbeat.published(self.version)
        self._unpublished = False

    async def _rebuild(self, *, anew: bool = False) -> None:
        """Publish every shard anew: a new epoch, or nothing to go on from."""
        async with self._base_lock:
            began = self._clock()
            version = await self._registry.version()
            if not anew and version.epoch <= self.bases.published.epoch:
                return  # another task saw the new epoch too, and was first
            total = sum((await self._registry.counts()).values())
            count = self._shards or (1 if total < scan.SMALL else 64)
            with self._store.spool() as folder:
                read = await self.reader.read(folder, shards=count, total=total)
                guard = RollbackGuard(read.version, read.head)
                since = await self.bases.write_all(
                    folder,
                    guard.header,
                    count,
                    on_progress=lambda done: self.reader.progress(
                        "writing the shards", done, count
                    ),
                )
            async with self._sync_lock:
                self.bases.begin(Published(read.version.epoch, since, since, began))
                self._validator.problems = dict(read.problems)
                self.live = LiveRecords(since, self._validator)
                self.live.settings = dict(read.settings)
                self._rollback_guard, self._live_from = guard, None
                self._unpublished = True
                self._publish_live()

    async def _resume(self) -> bool:
        """Find out which state of the registry was published last; False if that is unknown."""
        published = self.bases.published
        newest = max(published.bases, key=lambda shard: published.bases[shard])
        live, base = self._store.load("live"), self._served_bundles.get(f"base-{newest}")
        for bundle in (base, live):
            if bundle is None:
                continue
            version, head = await asyncio.to_thread(state_in, bundle)
            if version.epoch == published.epoch and version >= self.version and head is not None:
                self._rollback_guard.reach(version, head)
                if bundle is live:
                    # What was served before is demanded as if there had been no restart.
                    self.heartbeat.published(version, at=self._store.saved_at("live"))
        self.live = LiveRecords(published.since, self._validator)
        self._live_from = min(published.since.values())
        if live is not None:
            self._served_bundles.put(live)
        return self.version.revision >= 0

    def _signed(self, name: str, revision: str, document: Mapping[str, Any]) -> Bundle:
        return sign(
            name,
            revision=revision,
            roots=[f"registry/{name}"],
            key=self._key,
            data=canonical_records(document),
            path=f"registry/{name}",
            level=1,
        )


def log_failure(error: Exception) -> None:
    """Log why publishing failed: until it succeeds, the heartbeat grows old, and OPA denies."""
    if isinstance(error, RegistryError | BundleError):
        _log.error("publisher.failed code=%s error=%s", error.code, error)
    else:
        _log.error("publisher.failed code=fault", exc_info=error)
