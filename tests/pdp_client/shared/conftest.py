"""A real Redis, and what several instances are for it: clients of one namespace."""

import asyncio
import uuid

import pytest

from lictor import cluster
from pdp_client.shared.connection import connect

from .worlds import World


@pytest.fixture
def server(redis_process):
    return redis_process


@pytest.fixture
def namespace():
    return f"test-{uuid.uuid4().hex[:8]}"


@pytest.fixture
async def connected(server):
    """Clients as the product makes them: `connected()` is another instance's."""
    made = []

    def connected(**changes):
        made.append(connect(server.url, **{"timeout": 5, **changes}))
        return made[-1]

    yield connected
    for client in made:
        await client.aclose()


@pytest.fixture
async def make_world(make_stack, server):
    worlds = []

    async def make(**changes):
        stack = await make_stack(settings={"redis_url": server.url}, **changes)
        announcer = cluster.announcer(stack.settings)
        worlds.append(World(stack, server, announcer))
        await stack.user("ada")
        return worlds[-1]

    yield make
    for world in worlds:
        await world.announcer.aclose()


@pytest.fixture
async def world(make_world):
    return await make_world()


@pytest.fixture
async def held(world, monkeypatch):
    """The same, where nothing is published before the test says so."""
    publisher = world.stack.publisher
    sync = publisher.sync
    publish = asyncio.Event()

    async def held_sync():
        if publish.is_set():
            await sync()

    monkeypatch.setattr(publisher, "sync", held_sync)
    world.publish = publish
    world.sync = sync
    return world
