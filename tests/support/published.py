"""A publisher over a real registry whose bundles a real OPA runs; for the fixture `published`."""

from pdp_client.bearer.opaque import digest
from registry import Setting


async def start(published, **kwargs):
    """Publish, start OPA, and wait until it runs all of it."""
    if published.publisher is None:
        await published.open(**kwargs)
    # The publisher's clock starts ten minutes ago, so that a test can move it on.
    await setting(published, "staleness_limit", 1200)
    await setting(published, "reconcile_limit", 1200)
    await published.sync()
    published.deployment.opa.start()
    return await settled(published)


async def setting(published, name, value):
    async with published.registry.transaction(actor="tests", action="setting") as tx:
        await tx.put(Setting(name=name, value=value))


async def settled(published):
    """A PDP, once OPA runs everything that is signed."""
    served_bundles, signed = published.served_bundles, published.deployment
    for name in served_bundles.names():
        await signed.bundles.wait_for_report(name, revision=served_bundles.get(name).revision)
    return signed.pdp()


async def token(published, bearer):
    await published.operator.create_token(digest(bearer), user="ada", tools=["*"])
