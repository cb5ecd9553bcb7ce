"""A real Redis, and what several instances are for it: clients of one namespace."""

import uuid

import pytest

from pdp_client.shared.connection import connect


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
