"""A real Redis, and what several instances are for it: clients of one namespace."""

import os
import uuid

import pytest
from support.fetched import Unavailable, find_redis
from support.redis import GIVEN, redis_server

from pdp_client.shared.connection import connect


@pytest.fixture(scope="session")
def _redis_is_there():
    if GIVEN not in os.environ:
        try:
            find_redis()
        except Unavailable as reason:
            pytest.skip(str(reason))


@pytest.fixture
def server(_redis_is_there):
    """A Redis of the test's own."""
    with redis_server() as server:
        yield server


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
