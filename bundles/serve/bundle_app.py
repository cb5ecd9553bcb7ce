"""The HTTP side of the publisher that OPA talks to: bundles with long polling, status reports.

Every request but `/health` brings a bearer: a bundle holds digests and grants, and what an instance
says decides when a revocation counts as effective. Requests of MCP servers are signed instead.
"""

import hmac
import json
import re
import time
from collections.abc import Sequence

from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.datastructures import State
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from bundles.fleet.credentials import InstanceCredentials
from bundles.fleet.tracker import FleetTracker, newest_in
from bundles.publish.signing import CONTENT_TYPE, Bundle
from bundles.serve.etags import ETag, as_etag, parse_etags
from bundles.serve.metrics import ServeMetrics
from bundles.serve.served_bundles import ServedBundles
from bundles.serve.server_role import ServerRole

_LONGEST_POLL = 120.0
_LARGEST_REPORT = 1 << 20


def bundle_app(
    role: ServerRole,
    served_bundles: ServedBundles,
    fleet: FleetTracker,
    *,
    instances: InstanceCredentials,
    reader: str,
    signed: Sequence[Route] = (),
) -> Starlette:
    """Create OPA's app: `/bundles`, `/bundles/<name>.tar.gz`, `/status`, `/metrics`, `/health`.

    Args:
        role: says what can have been published.
        served_bundles: the bundles.
        fleet: where reports and acknowledgements go.
        instances: recognises the bearers of OPAs.
        reader: a bearer that may read, but does not acknowledge.
        signed: further routes, which verify the signature of each request themselves.
    """
    app = Starlette(
        routes=[
            *signed,
            Route("/health", _health),
            Route("/metrics", _metrics),
            Route("/bundles", _index),
            Route("/bundles/{name}.tar.gz", _bundle),
            Route("/status", _report, methods=["POST"]),
        ],
        middleware=[
            Middleware(
                _BearerRequired,
                instances=instances,
                reader=reader,
                exempt=frozenset(["/health", *(route.path for route in signed)]),
            )
        ],
    )
    app.state.role = role
    app.state.served_bundles = served_bundles
    app.state.fleet = fleet
    app.state.metrics = ServeMetrics(role, served_bundles, fleet)
    return app


class _BearerRequired:
    """Middleware that requires a known bearer, and sets `request.state.instance` to its owner."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        instances: InstanceCredentials,
        reader: str,
        exempt: frozenset[str],
    ) -> None:
        self._app = app
        self._exempt = exempt
        self._instances = instances
        self._reader = reader.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] not in self._exempt:
            given = dict(scope["headers"]).get(b"authorization", b"")
            bearer = given.removeprefix(b"Bearer ")
            instance = self._instances.id_of(bearer.decode("latin-1"))
            known = instance is not None or hmac.compare_digest(bearer, self._reader)
            if bearer == given or not known:
                refusal = JSONResponse({"error": "unauthorized"}, status_code=401)
                await refusal(scope, receive, send)
                return
            scope.setdefault("state", {})["instance"] = instance
        await self._app(scope, receive, send)


async def _health(_: Request) -> Response:
    return JSONResponse({"status": "ok"})


async def _metrics(request: Request) -> Response:
    content = generate_latest(request.app.state.metrics.registry)
    return Response(content, headers={"Content-Type": CONTENT_TYPE_LATEST})


async def _index(request: Request) -> Response:
    return JSONResponse({"bundles": request.app.state.served_bundles.names()})


async def _bundle(request: Request) -> Response:
    name = request.path_params["name"]
    etags = parse_etags(request.headers.get("if-none-match", ""))
    if request.state.instance is not None:
        _acknowledged(request, name, etags)
    wait = re.search(r"(?:^|[;,\s])wait=(\d{1,6})", request.headers.get("prefer", ""))
    seconds = min(float(wait[1]), _LONGEST_POLL) if wait and etags else 0.0
    found, kept = await _newer(request.app.state, name, etags, seconds=seconds)
    if found is None:
        return JSONResponse({"error": "no such bundle"}, status_code=404)
    if request.state.instance is not None and name == "heartbeat" and not kept:
        # An OPA that has it may answer for a while, even if it falls silent.
        request.app.state.fleet.mark_seen(request.state.instance)
    # OPA goes on with long polling only while every answer, a 304 too, says that it is a bundle.
    headers = {"Content-Type": CONTENT_TYPE, "Cache-Control": "no-cache"}
    if kept:
        return Response(status_code=304, headers={**headers, "ETag": kept.text})
    return Response(found.content, headers={**headers, "ETag": as_etag(found).text})


async def _newer(
    state: State, name: str, etags: Sequence[ETag], *, seconds: float
) -> tuple[Bundle | None, ETag | None]:
    """Return a served bundle once it is news to the caller; else also the one that it may keep.

    An OPA that comes from another server may have newer bundles, and must not go back.
    """
    deadline = time.monotonic() + seconds
    keeps = {etag.etag: etag for etag in etags}
    newest = max(etags, key=lambda etag: etag.version, default=None)
    while True:
        left = max(0.0, deadline - time.monotonic())
        found = await state.served_bundles.changed(name, frozenset(keeps), seconds=left)
        if found is None or found.etag in keeps:
            return found, found and keeps[found.etag]
        if newest is None or not await state.role.is_behind(as_etag(found).version, newest.version):
            return found, None
        keeps[found.etag] = newest


def _acknowledged(request: Request, name: str, etags: Sequence[ETag]) -> None:
    """An OPA that asks with a bundle's ETag runs that bundle."""
    state = request.app.state
    for etag in etags:
        if found := state.served_bundles.find_revision(name, etag.etag):
            revision, seconds = found
            if state.fleet.acknowledge(request.state.instance, name, revision):
                state.metrics.active(name, seconds)


async def _report(request: Request) -> Response:
    if request.state.instance is None:
        return JSONResponse({"error": "reports come from instances"}, status_code=403)
    body = bytearray()
    state = request.app.state
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > _LARGEST_REPORT:
                return JSONResponse({"error": "a report is 1 MiB at most"}, status_code=413)
        status = json.loads(body)
        published = await state.role.horizon(newest_in(status))
        state.fleet.report(request.state.instance, status, published=published)
    except (ValueError, AttributeError, RecursionError, ClientDisconnect):
        return JSONResponse({"error": "no status report"}, status_code=400)
    return Response(status_code=204)
