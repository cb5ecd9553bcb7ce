"""The bundles that are served now, and the wait for the next one."""

import asyncio
import time
from collections import OrderedDict

from bundles.publish.signing import Bundle

_REMEMBERED = 256
"""Bundles of one name whose ETags are known still, when an OPA comes back with one."""


class ServedBundles:
    """Bundles by name. Lives on one event loop."""

    def __init__(self) -> None:
        self._bundles: dict[str, Bundle] = {}
        self._replaced: dict[str, asyncio.Event] = {}
        self._known: dict[str, OrderedDict[str, tuple[str, float]]] = {}
        self._closed = False
        self._news = asyncio.Event()

    def close(self) -> None:
        """Release all waiting requests, now and later: the server is about to stop."""
        self._closed = True
        self._news.set()
        for replaced in self._replaced.values():
            replaced.set()

    @property
    def closed(self) -> bool:
        """Whether the server is about to stop."""
        return self._closed

    @property
    def news(self) -> asyncio.Event:
        """An event that is set once any bundle is replaced, or the server is about to stop."""
        return self._news

    def names(self) -> list[str]:
        """The names of all bundles, sorted."""
        return sorted(self._bundles)

    def get(self, name: str) -> Bundle | None:
        """The bundle of that name, or None."""
        return self._bundles.get(name)

    def put(self, bundle: Bundle) -> None:
        """Serve a bundle from now on, and wake the requests that wait for it."""
        self._bundles[bundle.name] = bundle
        known = self._known.setdefault(bundle.name, OrderedDict())
        known.setdefault(bundle.etag, (bundle.revision, time.monotonic()))
        while len(known) > _REMEMBERED:
            known.popitem(last=False)
        self._replaced.pop(bundle.name, asyncio.Event()).set()
        if not self._closed:
            news, self._news = self._news, asyncio.Event()
            news.set()

    def find_revision(self, name: str, etag: str) -> tuple[str, float] | None:
        """The revision of a bundle that was served lately, and for how many seconds it has been."""
        found = self._known.get(name, OrderedDict()).get(etag)
        return found and (found[0], time.monotonic() - found[1])

    def history(self, name: str) -> list[tuple[str, float]]:
        """Return the recent revisions of a bundle, and how many seconds ago each was put."""
        known = self._known.get(name, OrderedDict()).values()
        return [(revision, time.monotonic() - at) for revision, at in known]

    async def changed(self, name: str, etags: frozenset[str], *, seconds: float) -> Bundle | None:
        """Wait for a bundle that the caller lacks; after `seconds`, return the current one.

        Returns None if no bundle of that name exists, now or within that time.
        """
        try:
            async with asyncio.timeout(seconds):
                while (bundle := self._bundles.get(name)) is None or bundle.etag in etags:
                    if self._closed:
                        break
                    await self._replaced.setdefault(name, asyncio.Event()).wait()
        except TimeoutError:
            bundle = self._bundles.get(name)
        return bundle
