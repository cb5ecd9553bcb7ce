"""The HTTP side of the publisher: bundles with long polling, and OPA's status reports.

Every request but `/health` brings the bearer that OPA was configured with: a bundle holds digests
and grants, and a report decides when a revocation counts as effective.
"""

import hmac
import json
import re

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from bundles.catalogue import Catalogue
from bundles.exceptions import BundleError
from bundles.fleet import Fleet
from bundles.publisher import Publisher
from bundles.signing import CONTENT_TYPE
from registry import RegistryError

_LONGEST_POLL = 120.0
_LARGEST_REPORT = 1 << 20


def bundle_app(catalogue: Catalogue, fleet: Fleet, *, bearer: str) -> Starlette:
    """What OPA talks to: `/bundles`, `/bundles/<name>.tar.gz`, `/status` and `/health`."""
    app = Starlette(
        routes=[
            Route("/health", _health),
            Route("/bundles", _index),
            Route("/bundles/{name}.tar.gz", _bundle),
            Route("/status", _report, methods=["POST"]),
        ],
        middleware=[Middleware(_BearerRequired, bearer=bearer)],
    )
    app.state.catalogue = catalogue
    app.state.fleet = fleet
    return app


class _BearerRequired:
    def __init__(self, app: ASGIApp, *, bearer: str) -> None:
        self._app = app
        self._expected = f"Bearer {bearer}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] != "/health":
            given = dict(scope["headers"]).get(b"authorization", b"")
            if not hmac.compare_digest(given, self._expected):
                refusal = JSONResponse({"error": "unauthorized"}, status_code=401)
                await refusal(scope, receive, send)
                return
        await self._app(scope, receive, send)


async def _health(_: Request) -> Response:
    return JSONResponse({"status": "ok"})


async def _index(request: Request) -> Response:
    return JSONResponse({"bundles": request.app.state.catalogue.names()})


async def _bundle(request: Request) -> Response:
    name = request.path_params["name"]
    etags = frozenset(re.findall(r'"[^"]*"', request.headers.get("if-none-match", "")))
    wait = re.search(r"(?:^|[;,\s])wait=(\d{1,6})", request.headers.get("prefer", ""))
    seconds = min(float(wait[1]), _LONGEST_POLL) if wait and etags else 0.0
    found = await request.app.state.catalogue.changed(name, etags, seconds=seconds)
    if found is None:
        return JSONResponse({"error": "no such bundle"}, status_code=404)
    # OPA goes on with long polling only while every answer, a 304 too, says that it is a bundle.
    headers = {"ETag": found.etag, "Content-Type": CONTENT_TYPE, "Cache-Control": "no-cache"}
    if found.etag in etags:
        return Response(status_code=304, headers=headers)
    return Response(found.content, headers=headers)


async def _report(request: Request) -> Response:
    body = bytearray()
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > _LARGEST_REPORT:
                return JSONResponse({"error": "a report is 1 MiB at most"}, status_code=413)
        request.app.state.fleet.report(json.loads(body))
    except (ValueError, AttributeError, RecursionError, ClientDisconnect):
        return JSONResponse({"error": "no status report"}, status_code=400)
    return Response(status_code=204)


def admin_app(publisher: Publisher, fleet: Fleet) -> Starlette:
    """What the `lictor` command talks to, over a unix socket that only its owner may open."""

    async def wake(_: Request) -> Response:
        try:
            await publisher.look()
        except (RegistryError, BundleError) as error:
            return JSONResponse({"error": str(error), "code": error.code}, status_code=503)
        stamp = publisher.stamp
        return JSONResponse({"epoch": stamp.epoch, "revision": stamp.revision})

    async def status(_: Request) -> Response:
        return JSONResponse(
            {
                "epoch": publisher.stamp.epoch,
                "revision": publisher.stamp.revision,
                "problems": sorted(publisher.problems.values()),
                "instances": [
                    {
                        "id": one.id,
                        "version": one.version,
                        "seen_at": one.seen_at,
                        "revisions": dict(one.revisions),
                        "errors": dict(one.errors),
                    }
                    for one in fleet.instances()
                ],
            }
        )

    return Starlette(routes=[Route("/wake", wake, methods=["POST"]), Route("/status", status)])
