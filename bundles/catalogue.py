"""The bundles that are served now, and the wait for the next one."""

import asyncio

from bundles.signing import Bundle


class Catalogue:
    """Bundles by name. Lives on one event loop."""

    def __init__(self) -> None:
        self._bundles: dict[str, Bundle] = {}
        self._replaced: dict[str, asyncio.Event] = {}
        self._closed = False

    def close(self) -> None:
        """Answer everybody who waits, now and from now on: the server is about to stop."""
        self._closed = True
        for replaced in self._replaced.values():
            replaced.set()

    def names(self) -> list[str]:
        """The names of all bundles, sorted."""
        return sorted(self._bundles)

    def get(self, name: str) -> Bundle | None:
        """The bundle of that name, or None."""
        return self._bundles.get(name)

    def put(self, bundle: Bundle) -> None:
        """Serve a bundle from now on, and wake whoever waits for it."""
        self._bundles[bundle.name] = bundle
        self._replaced.pop(bundle.name, asyncio.Event()).set()

    async def changed(self, name: str, etags: frozenset[str], *, seconds: float) -> Bundle | None:
        """The bundle once it is none of those that the caller has; after `seconds`, as it is then.

        Returns None when there is no bundle of that name, now or within that time.
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
