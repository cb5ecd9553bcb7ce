import re
import string

import pytest

from pdp_client.exceptions import (
    BearerRejected,
    ConfigurationError,
    KeyringError,
    PDPError,
)
from pdp_client.reasons import _MESSAGES, Reason, ReasonClass, message, quote

DETAILS = {"kid": "k1", "claim": "exp", "problem": "…", "owner": "Ann", "tool": "search"}


@pytest.mark.parametrize("reason", Reason)
def test_every_reason_has_a_message_and_a_code_fit_for_a_label(reason):
    assert bool(message(reason, **DETAILS)) is (reason is not Reason.OK)
    assert re.fullmatch(r"[a-z_]+", reason)


def test_reason_equals_its_code_everywhere():
    assert f"{Reason.KEY_UNKNOWN}" == "key_unknown"
    assert Reason("key_unknown") is Reason.KEY_UNKNOWN


def test_outage_and_denial_reasons_differ_from_failed_authentication():
    by_class = {kind: {r for r in Reason if r.reason_class is kind} for kind in ReasonClass}
    assert by_class[ReasonClass.OK] == {"ok"}
    assert by_class[ReasonClass.OUTAGE] == {"unavailable", "behind", "stale_data"}
    assert by_class[ReasonClass.AUTHORISATION] == {"lockdown", "tool_not_allowed", "site_rule"}
    assert by_class[ReasonClass.AUTHENTICATION] == {
        "missing_token", "key_missing", "key_unknown", "key_retired", "alg_unsupported",
        "claim_missing", "claim_invalid", "issuer_invalid", "audience_invalid", "invalid_token",
        "token_expired", "replayed", "per_turn_retired", "token_deactivated", "team_unknown",
        "team_inactive", "user_disabled", "owner_disabled",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("reason", "details", "text"),
    [
        (Reason.MISSING_TOKEN, {}, "Authentication required. Provide a Bearer token."),
        (Reason.KEY_MISSING, {}, "JWT header missing kid."),
        (Reason.KEY_UNKNOWN, {"kid": "k9"}, "Unknown signing key kid='k9'."),
        (Reason.KEY_RETIRED, {"kid": "k1"}, "Signing key 'k1' has been retired."),
        (Reason.ALG_UNSUPPORTED, {}, "Unsupported JWT alg."),
        (Reason.CLAIM_MISSING, {"claim": "exp"}, "JWT missing required claim: exp"),
        (Reason.ISSUER_INVALID, {}, "Invalid token issuer."),
        (Reason.INVALID_TOKEN, {}, "Invalid MCP token."),
        (Reason.TOKEN_EXPIRED, {}, "Token has expired."),
        (Reason.REPLAYED, {}, "Token replay detected."),
        (
            Reason.PER_TURN_RETIRED,
            {},
            "Per-turn JWTs are no longer accepted; mint a team JWT.",
        ),
        (Reason.TOKEN_DEACTIVATED, {}, "Token has been deactivated."),
        (Reason.TEAM_UNKNOWN, {}, "Team JWT references a team that no longer exists."),
        (Reason.TEAM_INACTIVE, {}, "Team JWT references an inactive team."),
        (Reason.USER_DISABLED, {}, "User account is disabled."),
        (Reason.OWNER_DISABLED, {"owner": "Ann"}, "Team owner 'Ann' is disabled."),
        (
            Reason.TOOL_NOT_ALLOWED,
            {"tool": "wipe"},
            "Token does not have permission to call 'wipe'.",
        ),
    ],
)
def test_messages_are_the_contracts_word_for_word(reason, details, text):
    assert message(reason, **details) == text


def test_message_quotes_at_most_64_escaped_characters():
    long = message(Reason.KEY_UNKNOWN, kid="k" * 10_000)
    assert len(long) < 100
    assert "…" in long
    odd = message(Reason.KEY_UNKNOWN, kid="a\n\x00\x1b[31m\ud800{kid.__class__}")
    assert odd.isprintable()
    assert "{kid.__class__}" in odd
    assert quote("\r\n") == r"'\r\n'"


def test_message_without_a_named_detail_raises():
    with pytest.raises(KeyError):
        message(Reason.KEY_UNKNOWN)


def test_no_message_names_a_detail_that_is_not_documented():
    named = {
        name
        for text in _MESSAGES.values()
        for _, name, _, _ in string.Formatter().parse(text)
        if name is not None
    }
    assert named == set(DETAILS)


def test_error_classes_are_pdp_errors_with_distinct_codes():
    errors = [BearerRejected, ConfigurationError, KeyringError]
    assert all(issubclass(error, PDPError) for error in errors)
    assert len({error.code for error in errors}) == len(errors)
    assert issubclass(KeyringError, ConfigurationError)


def test_rejection_text_is_its_message():
    rejected = BearerRejected.because(Reason.KEY_UNKNOWN, kid="k9")
    assert rejected.reason is Reason.KEY_UNKNOWN
    assert str(rejected) == rejected.message == "Unknown signing key kid='k9'."
