"""`lictor serve` and an OPA that start together, as after a reboot."""

import asyncio

import pytest
from support.plain_opa import free_port

from bundles.publish.publisher import Publisher
from lictor.exceptions import AlreadyRunningError
from lictor.server import serving

pytestmark = pytest.mark.anyio


async def test_request_before_publication_is_answered_with_it(settings, monkeypatch):
    settings = settings.model_copy(update={"bundles_url": f"http://127.0.0.1:{free_port()}"})
    starting, publish, start = asyncio.Event(), asyncio.Event(), Publisher.start

    async def start_late(publisher):
        starting.set()
        await publish.wait()
        await start(publisher)

    monkeypatch.setattr(Publisher, "start", start_late)
    stop = asyncio.Event()

    async def serve():
        async with serving(settings):
            await stop.wait()

    async with asyncio.TaskGroup() as group:
        group.create_task(serve())
        await starting.wait()
        # A refused connection would be tried again after a backoff that grows to a minute.
        port = int(settings.bundles_url.rpartition(":")[2])
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /health HTTP/1.1\r\nHost: lictor\r\n\r\n")
        await writer.drain()
        publish.set()
        assert (await reader.readline()).startswith(b"HTTP/1.1 200 ")
        writer.close()
        stop.set()


async def test_second_serve_is_refused_before_it_publishes(settings):
    async with serving(settings):
        with pytest.raises(AlreadyRunningError):
            async with serving(settings):
                pass
