"""The `lictor` command's side of `lictor serve`: its admin unix socket."""

from pathlib import Path
from typing import Any

import httpx2

from lictor.exceptions import ServeUnavailableError

_SECONDS = 5.0


class Admin:
    """Asks the `lictor serve` of a state directory."""

    def __init__(self, socket: Path) -> None:
        self._socket = socket

    @property
    def there(self) -> bool:
        """Whether a `lictor serve` may be running."""
        return self._socket.exists()

    async def wake(self) -> dict[str, Any]:
        """Have everything published that is in the registry.

        Raises:
            ServeUnavailableError: it could not be reached, or could not publish.
        """
        return await self._request("POST", "/wake")

    async def effect(
        self, *, epoch: int, revision: int, seconds: float, receipt: bool = False
    ) -> dict[str, Any]:
        """Have everything published, and wait until a change is effective.

        Raises:
            ServeUnavailableError: as `wake`.
        """
        body = {"epoch": epoch, "revision": revision, "seconds": seconds, "receipt": receipt}
        return await self._request("POST", "/effect", body, seconds=seconds + _SECONDS)

    async def accept(self, *, actor: str) -> dict[str, Any]:
        """Let through what is held.

        Raises:
            ServeUnavailableError: as `wake`.
        """
        return await self._request("POST", "/accept", {"actor": actor}, seconds=600)

    async def compact(self) -> dict[str, Any]:
        """Compact the shard that `live` holds most of, however small `live` is.

        Raises:
            ServeUnavailableError: as `wake`.
        """
        return await self._request("POST", "/compact", seconds=60)

    async def status(self) -> dict[str, Any]:
        """Return what is published, and what each instance runs.

        Raises:
            ServeUnavailableError: it does not answer.
        """
        return await self._request("GET", "/status")

    async def _request(
        self,
        method: str,
        path: str,
        body: dict[str, Any] | None = None,
        *,
        seconds: float = _SECONDS,
    ) -> dict[str, Any]:
        # No TLS over a unix socket: reading the certificates would take longer than the request.
        transport = httpx2.AsyncHTTPTransport(uds=str(self._socket), verify=False)
        try:
            async with httpx2.AsyncClient(
                transport=transport, base_url="http://lictor", timeout=seconds
            ) as client:
                answer = await client.request(method, path, json=body)
                reply = answer.json()
        except (httpx2.HTTPError, OSError, ValueError) as error:
            raise ServeUnavailableError(
                f"lictor serve does not answer ({type(error).__name__})"
            ) from None
        if not isinstance(reply, dict) or answer.is_error:
            why = reply.get("error", "") if isinstance(reply, dict) else ""
            raise ServeUnavailableError(
                f"lictor serve could not do it: {why or answer.status_code}"
            )
        return reply
