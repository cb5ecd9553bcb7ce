"""OPAs that only poll, by the hundred, and a proxy that counts what a real one moves."""

import asyncio
import json
import random
import re
import time
from collections import Counter
from contextlib import asynccontextmanager

import aiohttp

from bundles.fleet.credentials import InstanceCredentials

LONG_POLLED = ("policy", "site", "live", "heartbeat")
WAIT = 30
BASE_DELAYS = (30, 60)
"""What `lictor opa` configures (`bundles.opa.server`)."""

REQUEST_HEAD = 350
"""About the bytes of a request's head, with its bearer and ETag."""

_REQUEST = re.compile(rb"^(?:GET|POST) /(?:bundles/)?([a-z]+)[^\r]* HTTP/1.1\r\n")


class Traffic:
    """Requests by kind, and bytes in both directions."""

    def __init__(self):
        self.reset()

    def reset(self):
        self.requests = Counter()
        self.sent = self.received = 0
        self.began = time.monotonic()

    def rates(self):
        """Requests and bytes a second since the last reset."""
        seconds = time.monotonic() - self.began
        return {
            "requests": sum(self.requests.values()) / seconds,
            "sent": self.sent / seconds,
            "received": self.received / seconds,
            "by_kind": {kind: count / seconds for kind, count in sorted(self.requests.items())},
        }


@asynccontextmanager
async def counting_proxy(host, port, traffic):
    """A proxy before a server; yields its port."""

    async def pump(reader, writer, count):
        try:
            while data := await reader.read(1 << 16):
                count(data)
                writer.write(data)
                await writer.drain()
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    def up(data):
        traffic.sent += len(data)
        if found := _REQUEST.match(data):
            traffic.requests[found[1].decode()] += 1

    def down(data):
        traffic.received += len(data)

    async def connected(reader, writer):
        above = await asyncio.open_connection(host, port)
        await asyncio.gather(pump(reader, above[1], up), pump(above[0], writer, down))

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


class SimulatedOPAs:
    """A fleet that has all bundles, and polls for news of them as `lictor opa` does.

    Each long poll has a connection of its own, as OPA's plugins have. OPA reports its status after
    each poll, also after one without news.
    """

    def __init__(self, settings, revisions, *, status_bytes, traffic):
        """Describe it.

        Args:
            settings: of the state directory.
            revisions: of all bundles, by name, for reports.
            status_bytes: how large a report is.
            traffic: counts.
        """
        self._url = settings.bundles_url
        self._credentials = InstanceCredentials.load(settings.instances_key)
        self._names = list(revisions)
        self._traffic = traffic
        bundles = {name: {"active_revision": one} for name, one in revisions.items()}
        status = {"labels": {"instance": "INSTANCE"}, "bundles": bundles, "metrics": {}}
        # OPA's reports are mostly metrics; numbers like theirs.
        missing = max(0, status_bytes - len(json.dumps(status)))
        status["metrics"] = {f"timer_{n:06}_ns": 1_000_000 + n for n in range(missing // 27)}
        self._status = json.dumps(status).encode()
        self._tasks = set()
        self._etags = {}

    async def __aenter__(self):
        connector = aiohttp.TCPConnector(limit=0)
        self._http = aiohttp.ClientSession(
            connector=connector, timeout=aiohttp.ClientTimeout(total=WAIT + 30)
        )
        headers = self._headers(0)
        for name in self._names:
            async with self._http.get(self._path(name), headers=headers) as response:
                await response.read()
                self._etags[name] = response.headers["ETag"]
        return self

    async def __aexit__(self, *_):
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._http.close()

    @property
    def count(self):
        return len(self._tasks) // (len(LONG_POLLED) + 1)

    def failures(self):
        """Loops that have ended, which none should."""
        return [task.exception() for task in self._tasks if task.done()]

    async def grow(self, count):
        """Start more of them, spread over a second."""
        for n in range(self.count, count):
            for loop in (*(self._long_poll(n, name) for name in LONG_POLLED), self._poll_bases(n)):
                self._tasks.add(asyncio.create_task(loop))
            await asyncio.sleep(1 / count)

    def _path(self, name):
        return f"{self._url}/bundles/{name}.tar.gz"

    def _headers(self, n, etag=None):
        headers = {"Authorization": f"Bearer {self._credentials.bearer(f'sim-{n}')}"}
        return {**headers, "If-None-Match": etag} if etag else headers

    async def _get(self, n, name, etag, *, wait):
        headers = self._headers(n, etag)
        if wait:
            headers["Prefer"] = f"modes=snapshot,delta;wait={WAIT}"
        async with self._http.get(self._path(name), headers=headers) as response:
            body = await response.read()
            kind = name.partition("-")[0]
            self._traffic.requests[kind] += 1
            self._traffic.received += len(body) + _head(response)
            self._traffic.sent += REQUEST_HEAD
            return response.headers.get("ETag", etag)

    async def _long_poll(self, n, name):
        etag = self._etags[name]
        while True:
            etag = await self._get(n, name, etag, wait=True)
            await self._report(n)

    async def _poll_bases(self, n):
        bases = [name for name in self._names if name.startswith("base-")]
        due = [(random.uniform(0, BASE_DELAYS[1]), name) for name in bases]
        began = time.monotonic()
        while due:
            due.sort()
            moment, name = due.pop(0)
            await asyncio.sleep(max(0.0, began + moment - time.monotonic()))
            await self._get(n, name, self._etags[name], wait=False)
            await self._report(n)
            due.append((time.monotonic() - began + random.uniform(*BASE_DELAYS), name))
        await asyncio.Event().wait()

    async def _report(self, n):
        body = self._status.replace(b"INSTANCE", f"sim-{n}".encode())
        headers = {**self._headers(n), "Content-Type": "application/json"}
        async with self._http.post(f"{self._url}/status", data=body, headers=headers) as response:
            await response.read()
            assert response.status == 204, response.status
        self._traffic.requests["status"] += 1
        self._traffic.sent += len(body) + REQUEST_HEAD


def _head(response):
    return 17 + sum(len(name) + len(value) + 4 for name, value in response.raw_headers)
