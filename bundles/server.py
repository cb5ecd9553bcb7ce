"""The HTTP side of the publisher that OPA talks to: bundles with long polling, status reports.

Every request but `/health` brings a bearer: a bundle holds digests and grants, and what an instance
says decides when a revocation counts as effective.
"""

import hmac
import json
import re

from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from bundles.catalogue import Catalogue
from bundles.fleet import Fleet
from bundles.instances import Instances
from bundles.metrics import Metrics
from bundles.publisher import Publisher
from bundles.signing import CONTENT_TYPE

_LONGEST_POLL = 120.0
_LARGEST_REPORT = 1 << 20


def bundle_app(
    publisher: Publisher,
    catalogue: Catalogue,
    fleet: Fleet,
    *,
    instances: Instances,
    reader: str,
) -> Starlette:
    """What OPA talks to: `/bundles`, `/bundles/<name>.tar.gz`, `/status`, `/metrics`, `/health`.

    Args:
        publisher: says what was published.
        catalogue: the bundles.
        fleet: where reports and acknowledgements go.
        instances: recognises the bearers of OPAs.
        reader: a bearer that may read, and is nobody's acknowledgement.
    """
    app = Starlette(
        routes=[
            Route("/health", _health),
            Route("/metrics", _metrics),
            Route("/bundles", _index),
            Route("/bundles/{name}.tar.gz", _bundle),
            Route("/status", _report, methods=["POST"]),
        ],
        middleware=[Middleware(_BearerRequired, instances=instances, reader=reader)],
    )
    app.state.publisher = publisher
    app.state.catalogue = catalogue
    app.state.fleet = fleet
    app.state.metrics = Metrics(publisher, catalogue, fleet)
    return app


class _BearerRequired:
    """Lets requests in that bring a known bearer; `request.state.instance` says whose it is."""

    def __init__(self, app: ASGIApp, *, instances: Instances, reader: str) -> None:
        self._app = app
        self._instances = instances
        self._reader = reader.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] != "/health":
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
    return JSONResponse({"bundles": request.app.state.catalogue.names()})


async def _bundle(request: Request) -> Response:
    name, catalogue = request.path_params["name"], request.app.state.catalogue
    etags = frozenset(re.findall(r'"[^"]*"', request.headers.get("if-none-match", "")))
    if request.state.instance is not None:
        _acknowledged(request, name, etags)
    wait = re.search(r"(?:^|[;,\s])wait=(\d{1,6})", request.headers.get("prefer", ""))
    seconds = min(float(wait[1]), _LONGEST_POLL) if wait and etags else 0.0
    found = await catalogue.changed(name, etags, seconds=seconds)
    if found is None:
        return JSONResponse({"error": "no such bundle"}, status_code=404)
    # OPA goes on with long polling only while every answer, a 304 too, says that it is a bundle.
    headers = {"ETag": found.etag, "Content-Type": CONTENT_TYPE, "Cache-Control": "no-cache"}
    if found.etag in etags:
        return Response(status_code=304, headers=headers)
    return Response(found.content, headers=headers)


def _acknowledged(request: Request, name: str, etags: frozenset[str]) -> None:
    """An OPA that asks with a bundle's ETag runs that bundle."""
    state = request.app.state
    for etag in etags:
        if found := state.catalogue.known(name, etag):
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
        state.fleet.report(
            request.state.instance, json.loads(body), published=state.publisher.stamp
        )
    except (ValueError, AttributeError, RecursionError, ClientDisconnect):
        return JSONResponse({"error": "no status report"}, status_code=400)
    return Response(status_code=204)
