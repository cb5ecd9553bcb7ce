"""Per-turn tokens, and whether a replay guard takes one for a replay."""

from pdp_client.bearer.verifier import Credential
from pdp_client.exceptions import BearerRejected
from pdp_client.reasons import Reason

EXP = 1_790_000_000


def turn(*, jti="j1", exp=EXP, iss="daedalus", **claims):
    return Credential(
        kind="jwt", kid="k1", claims={"iss": iss, "sub": "u", "jti": jti, "exp": exp, **claims}
    )


async def seen(guard, credential):
    """Whether the guard calls it a replay."""
    try:
        await guard.check(credential)
    except BearerRejected as rejected:
        return rejected.reason is Reason.REPLAYED
    return False
