"""The API for the `lictor` command, over a unix socket that only its owner may open."""

import json
import time
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from bundles.exceptions import BundleError
from bundles.fleet import receipt
from bundles.fleet.propagation import PropagationTracker, staleness_limit
from bundles.fleet.tracker import FleetTracker, Instance
from bundles.publish.signing import SigningKey
from bundles.serve.server_role import PublicationState, ServerRole
from lictor_common.version import CLOCK_TOLERANCE
from registry import Registry, RegistryError, RegistryVersion

_MOST_SECONDS = 3600.0


def admin_app(
    *,
    registry: Registry,
    role: ServerRole,
    fleet: FleetTracker,
    propagation: PropagationTracker,
    key: SigningKey,
) -> Starlette:
    """`POST /wake`, `/effect`, `/compact` and `/accept`, `GET /status`."""

    async def wake(_: Request) -> dict[str, Any]:
        await role.sync()
        return {"epoch": role.version.epoch, "revision": role.version.revision}

    async def effect(request: Request) -> dict[str, Any]:
        asked = json.loads(await request.body())
        version = RegistryVersion(int(asked["epoch"]), int(asked["revision"]))
        seconds = min(max(0.0, float(asked["seconds"])), _MOST_SECONDS)
        found = await propagation.wait(version, seconds=seconds)
        answer = found.as_json()
        if asked.get("receipt") and found.effective:
            entries = await registry.log(after=version.revision - 1, limit=1)
            if entries:
                answer["receipt"] = receipt.issue(found, entries[0], key)
        return answer

    async def accept(request: Request) -> dict[str, Any]:
        actor = str(json.loads(await request.body())["actor"])
        publisher, reconciler = role.here.publisher, role.here.reconciler
        was = publisher.held or reconciler.held
        if publisher.held:
            await publisher.accept(actor=actor)
        elif reconciler.held:
            await reconciler.run(accept=True)
        return {"accepted": was, **await wake(request)}

    async def compact(_: Request) -> dict[str, Any]:
        return {"folded": await role.here.publisher.compact(at_once=True)}

    async def status(_: Request) -> dict[str, Any]:
        return _status(role, fleet)

    return Starlette(
        routes=[
            Route("/wake", _answering(wake), methods=["POST"]),
            Route("/effect", _answering(effect), methods=["POST"]),
            Route("/compact", _answering(compact), methods=["POST"]),
            Route("/accept", _answering(accept), methods=["POST"]),
            Route("/status", _answering(status)),
        ]
    )


def _answering(
    what: Callable[[Request], Awaitable[dict[str, Any]]],
) -> Callable[[Request], Awaitable[Response]]:
    async def answer(request: Request) -> Response:
        try:
            return JSONResponse(await what(request))
        except (RegistryError, BundleError) as error:
            return JSONResponse({"error": str(error), "code": error.code}, status_code=503)
        except (ValueError, KeyError, TypeError, ArithmeticError, RecursionError):
            return JSONResponse({"error": "not such a request"}, status_code=400)

    return answer


def _status(role: ServerRole, fleet: FleetTracker) -> dict[str, Any]:
    state, cluster = role.state(), role.cluster
    return {
        "epoch": state.version.epoch,
        "revision": state.version.revision,
        "role": "publishing" if role.publishing else "following",
        **(cluster.status() if cluster else {}),
        "synced_at": state.synced_at,
        "reconciled_at": state.reconciled_at,
        "reconcile_seconds": state.reconcile_seconds,
        "reconcile_records": state.reconcile_records,
        "live_records": state.live_records,
        "shards": state.shards,
        "compactions": state.compactions,
        "problems": [
            *state.held,
            *state.failing,
            *(cluster.problems() if cluster else ()),
            *role.notices(),
            *role.faults.problems(),
            *_forgotten(role, fleet),
            *_late(role, state),
            *state.malformed,
            *(line for one in fleet.instances() for line in _wrong_with(one, state.version)),
        ],
        "instances": [_instance_json(one, state.version) for one in fleet.instances()],
    }


def _forgotten(role: ServerRole, fleet: FleetTracker) -> list[str]:
    if not fleet.forgot_within(staleness_limit(role.settings) + CLOCK_TOLERANCE):
        return []
    unknown = "instances: it is not known which ones ran before; no change counts as "
    return [unknown + "acknowledged until the staleness limit has passed"]


def _late(role: ServerRole, state: PublicationState) -> list[str]:
    """Before it is `stale_data`: half of the time that there is."""
    limit = role.settings.get("reconcile_limit")
    age = time.time() - state.reconciled_at
    if not isinstance(limit, int | float) or not age > limit / 2:
        return []
    read = f"reconcile: the newest read of everything began {age:.0f} s ago"
    return [f"{read}; after {limit:g} s every answer is stale_data"]


def _wrong_with(one: Instance, published: RegistryVersion) -> list[str]:
    lines = [f"instance {one.id}: {name}: {error}" for name, error in sorted(one.errors.items())]
    if one.refused:
        lines.append(f"instance {one.id}: refused: {one.refused}")
    if "live" in one.revisions and one.live.epoch != published.epoch:
        lines.append(f"instance {one.id}: runs epoch {one.live.epoch}, not {published.epoch}")
    return lines


def _instance_json(one: Instance, published: RegistryVersion) -> dict[str, Any]:
    same = one.live.epoch == published.epoch
    return {
        "id": one.id,
        "version": one.version,
        "seen_at": one.seen_at,
        "revision": one.live.revision if "live" in one.revisions else None,
        "behind": published.revision - one.live.revision if same else None,
        "revisions": dict(sorted(one.revisions.items())),
        "errors": dict(sorted(one.errors.items())),
    }
