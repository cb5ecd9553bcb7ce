"""A use is a call with a token that was found good, permitted or not."""

import pytest

from pdp_client.bearer.verifier import Credential
from pdp_client.decision import Decision
from pdp_client.reasons import Reason
from pdp_client.usage import is_use, used_token

TOKEN = Credential(kind="token", digest="9f" * 32)
TEAM = Credential(kind="jwt", kid="k1", claims={"typ": "team", "sub": "team:x"})
GOOD = {Reason.OK, Reason.TOOL_NOT_ALLOWED, Reason.SITE_RULE}


def decided(reason, credential):
    return Decision(
        allow=reason is Reason.OK,
        reason=reason,
        reasons=(reason.value,),
        message="",
        credential=credential,
    )


@pytest.mark.parametrize("reason", Reason)
def test_use_is_a_decision_about_a_valid_token(reason):
    used = used_token(decided(reason, TOKEN))
    assert used == (TOKEN.digest if reason in GOOD else "")


@pytest.mark.parametrize("credential", [None, TEAM])
def test_only_opaque_tokens_are_used(credential):
    assert used_token(decided(Reason.OK, credential)) == ""


@pytest.mark.parametrize("reason", ["bogus", "", None, 3, ["ok"], {}])
def test_use_ignores_record_values_that_are_no_reason(reason):
    assert not is_use("token", reason)
