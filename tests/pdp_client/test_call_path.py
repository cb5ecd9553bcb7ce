"""The way of a call from `PDP.decide` to the socket is short enough to follow."""

import traceback

import pytest

from pdp_client import PDP, Action, BearerVerifier, Issuer, Keyring
from pdp_client.opa.unix import _Connection

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("cached", [False, True])
async def test_seven_calls_lie_between_decide_and_the_socket(plain_opa, monkeypatch, cached):
    async def exchange(self, request):
        self.close()
        raise OSError("enough")

    monkeypatch.setattr(_Connection, "exchange", exchange)
    verifier = BearerVerifier([Issuer("mnemosyne", Keyring.from_jwks({"keys": []}))])
    shared = _Watched() if cached else None
    async with PDP(
        opa_url=plain_opa.unix_url, verifier=verifier, shared=shared, cache=cached
    ) as pdp:
        with pytest.raises(OSError, match="enough") as raised:
            await pdp.decide(None, Action(name="search"))
    ours = [frame for frame in traceback.extract_tb(raised.value.__traceback__) if "/pdp_client/" in frame.filename
            and "/tests/" not in frame.filename]  # fmt: skip
    names = [frame.name for frame in ours]
    assert names[0] == "decide"
    assert "query_until_current" in names
    assert ("get_or_query" in names) is cached
    # After `PDP.decide` itself, and with the connection that was called last.
    assert len(names[1:]) + 1 <= 7, names


class _Watched:
    """What instances share, where the registry is known to be at revision 1."""

    class newest:  # noqa: N801 - an attribute of the protocol
        @staticmethod
        def cached():
            from pdp_client.freshness.revision import LatestRevision

            return LatestRevision(1, 1, "policy", "site", 0.0, "run")

        @staticmethod
        def start_watching():
            pass

    class replay:  # noqa: N801
        @staticmethod
        async def check(credential):
            pass

    class usage:  # noqa: N801
        @staticmethod
        def count(decision, at):
            pass

    async def aclose(self):
        pass
