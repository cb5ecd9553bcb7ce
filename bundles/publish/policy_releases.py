"""Policy and site bundles, taken from the folder where they were built, and rolled out."""

import time
from collections.abc import Callable

from bundles.publish.signing import Bundle, data_of
from bundles.publish.store import Store
from bundles.publish.target import PublishTarget

NAMES = ("policy", "site")

_OVERLAP = 120.0
"""Seconds for which the revision before the newest is accepted: two polls and a restart."""


class PolicyReleases:
    """The served revisions of `policy` and `site`, and those that OPAs may still run."""

    def __init__(
        self, store: Store, served_bundles: PublishTarget, *, clock: Callable[[], float] = time.time
    ) -> None:
        self._store = store
        self._served_bundles = served_bundles
        self._clock = clock
        self._newest: dict[str, Bundle] = {}
        self._before: dict[str, tuple[str, float]] = {}
        self._seen: dict[str, int] = {}
        self._decoding: set[str] = set()

    def refresh(self) -> bool:
        """Load new bundle files; True when there was one. A broken file changes nothing."""
        found = False
        for name in NAMES:
            path = self._store.path(name)
            try:
                changed_at = path.stat().st_mtime_ns
            except OSError:
                continue
            if self._seen.get(name) == changed_at:
                continue
            bundle = self._store.load(name)
            if bundle is None:
                continue
            self._seen[name] = changed_at
            current = self._newest.get(name)
            if current and bundle.etag == current.etag:
                continue
            if current and current.revision != bundle.revision:
                self._before[name] = (current.revision, self._clock() + _OVERLAP)
            self._newest[name] = bundle
            found = True
            if name == "policy" and _decodes_records(bundle):
                self._decoding.add(bundle.revision)
        return found

    def accepted(self) -> dict[str, list[str]]:
        """The revisions that the heartbeat names: the newest, and for a while the one before."""
        return {
            name: [
                *([self._newest[name].revision] if name in self._newest else []),
                *(
                    revision
                    for revision, until in [self._before.get(name, ("", 0.0))]
                    if self._clock() < until
                ),
            ]
            for name in NAMES
        }

    def decode_records(self) -> bool:
        """Return whether all rules that OPAs may run read records that are JSON in strings."""
        return self._decoding.issuperset(self.accepted()["policy"])

    def serve(self) -> None:
        """Put the newest bundles out; to be called after the heartbeat that accepts them."""
        for name, bundle in self._newest.items():
            served = self._served_bundles.get(name)
            if served is None or served.etag != bundle.etag:
                self._served_bundles.put(bundle)


def _decodes_records(policy: Bundle) -> bool:
    manifest = data_of(policy.content).get("lictor", {}).get("manifest", {})
    return manifest.get("decodes_records") is True
