"""An OPA whose bundles come from a host that knows nothing but files."""

import asyncio
import threading
import time
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest
from support.waiting import until

from bundles.cluster.object_store import ObjectStore
from bundles.cluster.uploader import StoreUploader
from pdp_client import Action
from pdp_client.bearer.opaque import digest, mint_opaque

pytestmark = pytest.mark.anyio


class Files(SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@pytest.fixture
def static_host(tmp_path):
    """A folder, and where it is signed."""
    handler = partial(Files, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as host:
        threading.Thread(target=host.serve_forever, daemon=True).start()
        yield tmp_path, f"http://127.0.0.1:{host.server_port}"
        host.shutdown()


async def test_revocation_reaches_an_opa_that_a_static_host_feeds(published, static_host):
    folder, url = static_host
    uploader = StoreUploader(ObjectStore(folder.as_uri()))
    put = published.served_bundles.put

    def put_and_mirror(bundle):
        put(bundle)
        uploader.enqueue(bundle)

    published.served_bundles.put = put_and_mirror
    published.clock = time.time
    await published.open()
    await published.operator.add_user("ada")
    bearer = mint_opaque()
    await published.operator.create_token(digest(bearer), user="ada", tools=["*"], libraries=[])
    parts = (uploader.run(), published.publisher.run())
    running = [asyncio.ensure_future(part) for part in parts]
    signed = published.deployment
    signed.fetch_shards(1)
    signed.opa.settings = replace(signed.opa.settings, bundles_url=url)
    signed.opa.start()
    pdp = signed.pdp()

    async def decides(reason):
        return (await pdp.authorize(bearer, tool="search")).reason == reason

    await until(lambda: decides("ok"), "it allows")
    await published.operator.revoke_token(digest(bearer))
    await until(lambda: decides("token_deactivated"), "it denies")

    assert (await pdp.visible(None, actions=[Action(name="x")])).reason == "missing_token"
    for one in running:
        one.cancel()
    await asyncio.gather(*running, return_exceptions=True)
