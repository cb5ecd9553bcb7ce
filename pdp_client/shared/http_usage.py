"""Use counts of tokens, collected by each instance and summed by `lictor serve`."""

import secrets

from lictor_common.signed_exchange import PING, USES
from pdp_client.shared.http_client import ServeClient
from pdp_client.shared.usage_batches import EVERY, UsageBatches, Uses


class HTTPUsage(UsageBatches):
    """A `pdp_client.usage.UsageCounter` that sends its counts to `lictor serve` every second."""

    def __init__(
        self, client: ServeClient, *, most_tokens: int = 10_000, every: float = EVERY
    ) -> None:
        """Create the counter; the first use starts a task on the event loop.

        Args:
            client: sends its requests; its owner closes it, after `aclose`.
            most_tokens: the most different tokens that are kept until they are sent.
            every: seconds between two batches.
        """
        super().__init__(most_tokens=most_tokens, every=every)
        self._client = client

    async def _probe(self) -> None:
        await self._client.post(PING, {})

    async def _send(self, batch: Uses) -> None:
        # The client sends it again when the connection breaks; by its id, it is added once.
        uses = [[digest, count, at] for digest, (count, at) in batch.items()]
        await self._client.post(USES, {"batch": secrets.token_hex(16), "uses": uses})
