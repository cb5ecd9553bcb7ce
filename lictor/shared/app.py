"""The requests of MCP servers for what they share: signed with `newest.key`, and so the responses.

A `lictor serve` that is one of several refuses them: each would know of a part only.
"""

import asyncio
import logging
import math
import re
import time
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from bundles.exceptions import BundleError, StoreUnusableError
from bundles.fleet.caches import CacheTracker
from bundles.serve.server_role import ServerRole
from lictor.shared.revision import KnownState, RevisionFeed
from lictor.shared.store import SharedStateStore
from lictor_common.signed_exchange import (
    LARGEST,
    LEASE,
    NEWEST,
    PING,
    REPLAY,
    USES,
    SignedExchange,
    SignedRequest,
)
from lictor_common.text import is_digest
from registry import RegistryError, RegistryVersion

_LONGEST_POLL = 20.0
"""Seconds: proxies cut a response that takes 30."""
_BODY_SECONDS = 10.0
_MOST_USES = 2**53
_LATEST = 1e12
_INSTANCE = re.compile(r"[A-Za-z0-9.:_-]{1,128}")
_BATCH = re.compile(r"[0-9a-f]{32}")
_REVISION = re.compile(r"[\x21-\x7e]{1,200}")

_log = logging.getLogger(__name__)

_Answer = Callable[[SignedRequest], Awaitable[bytes]]


class SharedStateApp:
    """Answers the requests of MCP servers."""

    def __init__(
        self,
        exchange: SignedExchange,
        *,
        role: ServerRole,
        feed: RevisionFeed,
        caches: CacheTracker,
        store: SharedStateStore,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Create it.

        Args:
            exchange: verifies requests and signs responses.
            role: says whether this is one of several servers.
            feed: the registry's latest revision.
            caches: receives each poll.
            store: remembers jtis and use counts.
            clock: seconds since 1970.
        """
        self._exchange = exchange
        self._role = role
        self._feed = feed
        self._caches = caches
        self._store = store
        self._clock = clock
        self._failing: dict[str, str] = {}

    @property
    def routes(self) -> list[Route]:
        """The routes, for the application that OPA talks to."""
        answers: dict[str, _Answer] = {
            NEWEST: self._newest,
            REPLAY: self._replay,
            USES: self._uses,
            PING: self._ping,
        }
        return [
            Route(path, self._verified(path, answer), methods=["POST"])
            for path, answer in answers.items()
        ]

    def _verified(self, path: str, answer: _Answer) -> Callable[[Request], Awaitable[Response]]:
        async def respond(request: Request) -> Response:
            signed = await self._verify(path, request)
            if isinstance(signed, Response):
                return signed
            try:
                content = await answer(signed)
            except (RegistryError, BundleError) as error:
                self._log_once(path, error)
                return _refusal(503, error.code)
            except (ValueError, TypeError, LookupError, ArithmeticError):
                return _refusal(400, "not such a request")
            self._failing.pop(path, None)
            return Response(content, headers={"Cache-Control": "no-store"})

        return respond

    async def _verify(self, path: str, request: Request) -> SignedRequest | Response:
        """Return a request that is to be answered, or the response that refuses it."""
        body = await _body(request)
        if body is None:
            return _refusal(413, "the body is too large, or too slow")
        signed = self._exchange.verify_request(path, body)
        if signed is None:
            return _refusal(401, "the request is not signed with newest.key")
        if not signed.is_timely(self._clock()):
            return _refusal(403, "the request is old, or the clocks differ")
        if self._role.cluster is not None and not self._role.cluster.alone:
            return _refusal(409, "one of several lictor serve: share through their Redis")
        return signed

    def _log_once(self, path: str, error: RegistryError | BundleError) -> None:
        if self._failing.get(path) != error.code:
            _log.warning("shared_state.failed path=%s code=%s error=%s", path, error.code, error)
        self._failing[path] = error.code

    async def _newest(self, request: SignedRequest) -> bytes:
        content = request.content
        instance = _matching(_INSTANCE, content["instance"])
        if content.get("leaves"):
            self._caches.remove(instance)
            return self._exchange.response(NEWEST, request.nonce, {})
        known = _known(content["known"])
        wait, lease = _number(content["wait"], _LONGEST_POLL), _number(content["lease"], LEASE)
        if lease:
            await self._store.note("caching")
            # Before the read: a write after it finds this cache.
            if not self._caches.record(instance, await self._real(known), lease=lease):
                raise StoreUnusableError("too many caches poll this lictor serve")
        state = await self._feed.changed(known, seconds=wait)
        return self._feed.sign(state, request.nonce)

    async def _real(self, known: KnownState) -> RegistryVersion:
        """Return the version that a cache knows; none if it was never one of this registry."""
        if known.version <= self._role.version:
            return known.version
        latest = await self._feed.read()
        return known.version if known.version <= latest.version else KnownState().version

    async def _replay(self, request: SignedRequest) -> bytes:
        jti = str(request.content["jti"])
        if not is_digest(jti):
            raise ValueError("no digest")
        first = await self._store.first_exp(
            jti,
            exp=_number(request.content["exp"], _LATEST),
            remember=_number(request.content["remember"], _LATEST),
        )
        return self._exchange.response(REPLAY, request.nonce, {"first_exp": first})

    async def _uses(self, request: SignedRequest) -> bytes:
        uses: dict[str, tuple[int, float]] = {}
        for digest, count, at in request.content["uses"]:
            if not is_digest(digest) or type(count) is not int or not 0 < count < _MOST_USES:
                raise ValueError("no use")
            uses[digest] = count, _number(at, _LATEST)
        await self._store.add_uses(_matching(_BATCH, request.content["batch"]), uses)
        return self._exchange.response(USES, request.nonce, {})

    async def _ping(self, request: SignedRequest) -> bytes:
        return self._exchange.response(PING, request.nonce, {})


async def _body(request: Request) -> bytes | None:
    body = bytearray()
    try:
        async with asyncio.timeout(_BODY_SECONDS):
            async for chunk in request.stream():
                body += chunk
                if len(body) > LARGEST:
                    return None
    except (TimeoutError, ClientDisconnect):
        return None
    return bytes(body)


def _refusal(status: int, why: str) -> Response:
    return JSONResponse({"error": why}, status_code=status)


def _known(value: Any) -> KnownState:
    if value is None:
        return KnownState()
    epoch, revision, policy, site = value
    if type(epoch) is not int or type(revision) is not int:
        raise TypeError("no version")
    rules = [None if one is None else _matching(_REVISION, one) for one in (policy, site)]
    return KnownState(RegistryVersion(epoch, revision), *rules)


def _number(value: Any, most: float) -> float:
    if type(value) not in {int, float} or not 0 <= value <= most or math.isnan(value):
        raise ValueError("no number")
    return float(value)


def _matching(pattern: re.Pattern[str], value: Any) -> str:
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise ValueError("no such text")
    return value
