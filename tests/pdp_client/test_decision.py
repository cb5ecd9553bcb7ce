"""OPA's answers are read strictly: whatever is not exactly well-formed allows nothing."""

import dataclasses
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.faults import ALLOW

from pdp_client.decision import Action, Decision, Principal
from pdp_client.exceptions import ResponseUnusableError
from pdp_client.opa.response import parse_callers, parse_decision, parse_visible
from pdp_client.reasons import Reason

DENY = {**ALLOW, "allow": False, "reason": "token_expired", "reasons": ["token_expired"]}
MISSING = object()

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.sampled_from(["ok", "team", "token", "site:x", *Reason]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def with_(answer, field, value):
    changed = {**answer, field: value}
    if value is MISSING:
        del changed[field]
    return changed


def is_well_formed_allow(answer):
    """An independent reading of the contract, for an allow."""
    is_int = lambda value: type(value) is int  # noqa: E731
    principal = answer.get("principal")
    return (
        answer.get("allow") is True
        and answer.get("reason") == "ok"
        and answer.get("reasons") == ["ok"]
        and isinstance(answer.get("message"), str)
        and isinstance(principal, dict)
        and principal.get("type") in ["token", "team", "jwt"]
        and isinstance(principal.get("id"), str)
        and all(isinstance(principal.get(k), str | None) for k in ("name", "user"))
        and isinstance(answer.get("libraries"), list)
        and all(isinstance(library, str) for library in answer["libraries"])
        and is_int(answer.get("epoch"))
        and is_int(answer.get("revision"))
        and (answer.get("data_age_ms") is None or is_int(answer["data_age_ms"]))
        and (
            answer.get("valid_until") is None
            or (type(answer["valid_until"]) in (int, float) and abs(answer["valid_until"]) < 1e308)
        )
    )


def test_well_formed_allow_is_an_allow():
    decision = parse_decision({**ALLOW, "libraries": ["b", "a", "b"], "valid_until": 1795000000})
    assert decision.allow is True
    assert decision.reason is Reason.OK
    assert decision.libraries == ("a", "b")
    assert decision.principal == Principal(type="token", id="lct_…", name="Ada", user="ada")
    assert (decision.epoch, decision.revision, decision.data_age_ms) == (1, 42, 1)
    assert decision.valid_until == 1795000000.0
    assert decision.uses_arguments is False


@pytest.mark.parametrize("kind", ["token", "team", "jwt"])
def test_every_part_of_a_decision_is_kept(kind):
    principal = {"type": kind, "id": "x", "name": None, "user": "ada"}
    response = {**ALLOW, "principal": principal, "message": "m", "policy": "p1", "site": "s1"}
    decision = parse_decision(response)
    assert decision.principal == Principal(type=kind, id="x", name=None, user="ada")
    assert (decision.message, decision.policy, decision.site) == ("m", "p1", "s1")
    assert not decision.shadowed


REFUSED = {
    **DENY, "reason": "site_rule", "reasons": ["site:closed", "site_rule", "tool_not_allowed"],
    "shadow": {"libraries": ["b", "a", "b"]},
}  # fmt: skip


def test_denied_action_in_shadow_mode_runs_with_its_libraries():
    decision = parse_decision(REFUSED, shadow=True)
    assert (decision.allow, decision.shadowed, decision.runs) == (False, True, True)
    assert decision.libraries == ("a", "b")
    assert decision.reason is Reason.SITE_RULE
    # Without shadow mode, what OPA says about it counts for nothing.
    enforced = parse_decision(REFUSED)
    assert (enforced.shadowed, enforced.runs, enforced.libraries) == (False, False, ())
    not_shadowed = parse_decision({**REFUSED, "shadow": None}, shadow=True)
    assert (not_shadowed.shadowed, not_shadowed.runs) == (False, False)


@pytest.mark.parametrize(
    "changes",
    [
        {"principal": None}, {"epoch": None}, {"revision": None}, {"shadow": []}, {"shadow": {}},
        {"shadow": {"libraries": "a"}}, {"reason": "token_expired", "reasons": ["token_expired"]},
        {"reasons": ["site_rule", "user_disabled"]},
        {"reason": "unavailable", "reasons": ["unavailable"]},
    ],
)  # fmt: skip
def test_shadow_of_anything_but_a_denied_action_is_unusable(changes):
    with pytest.raises(ResponseUnusableError):
        parse_decision({**REFUSED, **changes}, shadow=True)


def test_well_formed_denial_keeps_its_reasons():
    reasons = ["user_disabled", "site:closed", "site_rule", "token_expired"]
    decision = parse_decision(
        {**DENY, "reasons": reasons, "principal": None, "epoch": None, "revision": None}
    )
    assert decision.allow is False
    assert decision.reason is Reason.TOKEN_EXPIRED
    assert decision.reasons == ("site:closed", "site_rule", "token_expired", "user_disabled")
    assert decision.epoch is None


def test_decision_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        parse_decision(DENY).allow = True


MALFORMED = [
    *[("allow", odd) for odd in (MISSING, None, 1, "true", [True], {"allow": True})],
    *[("reason", odd) for odd in (MISSING, None, "", "OK", "ok ", ["ok"], {}, "token_expired", 1)],
    *[
        ("reasons", odd)
        for odd in (
            MISSING, None, "ok", [], [None], ["ok", "ok"], ["ok", "token_expired"], ["ok", "site:x"],
            ["token_expired"], {"ok": True}, [["ok"]],
        )
    ],
    *[("message", odd) for odd in (MISSING, None, 1, ["text"])],
    *[
        ("principal", odd)
        for odd in (
            MISSING, None, "token", [], {}, {"type": "token"}, {"type": "root", "id": "x"},
            {"type": [], "id": "x"}, {"type": {}, "id": "x"}, {"type": "team", "id": 7},
            {"type": "team", "id": "x", "name": 1}, {"type": "team", "id": "x", "user": []},
        )
    ],
    *[("libraries", odd) for odd in (MISSING, None, "lib-a", {"lib-a": 1}, ["lib-a", 1], [None])],
    *[("epoch", odd) for odd in (MISSING, None, "1", 1.0, True, [1])],
    *[("revision", odd) for odd in (MISSING, None, "42", 42.5, False, {})],
    *[("data_age_ms", odd) for odd in ("1", 1.5, True, [])],
    *[("valid_until", odd) for odd in ("1", True, [], math.nan, math.inf, -math.inf, 10**400)],
]  # fmt: skip


@pytest.mark.parametrize(("field", "odd"), MALFORMED)
def test_allow_with_anything_odd_is_unusable(field, odd):
    with pytest.raises(ResponseUnusableError):
        parse_decision(with_(ALLOW, field, odd))


@pytest.mark.parametrize(
    ("field", "odd"),
    [
        ("allow", True), ("reason", "ok"), ("reasons", ["ok"]), ("reasons", ["ok", "token_expired"]),
        ("reasons", ["user_disabled"]), ("reasons", ["token_expired", "made_up"]),
        ("libraries", ["lib-a"]), ("message", None),
    ],
)  # fmt: skip
def test_denial_that_contradicts_itself_is_unusable(field, odd):
    with pytest.raises(ResponseUnusableError):
        parse_decision(with_(DENY, field, odd))


@pytest.mark.parametrize("odd", [MISSING, None, "false", 0, True, []])
def test_only_a_clear_no_says_that_arguments_do_not_count(odd):
    assert parse_decision(with_(ALLOW, "uses_arguments", odd)).uses_arguments is True


def test_missing_end_of_validity_is_never_cache():
    assert parse_decision(with_(ALLOW, "valid_until", MISSING)).valid_until is None


@given(JSON)
def test_arbitrary_json_is_never_an_allow(value):
    with pytest.raises(ResponseUnusableError):
        parse_decision(value)


@given(st.dictionaries(st.sampled_from(list(ALLOW)), JSON, max_size=3))
def test_altered_allow_allows_only_while_well_formed(changes):
    answer = {**ALLOW, **changes}
    try:
        allowed = parse_decision(answer).allow
    except ResponseUnusableError:
        allowed = False
    assert allowed is is_well_formed_allow(answer)


LIST = {"indices": [0, 2], "reason": "ok", "epoch": 1, "revision": 42}


def test_well_formed_list_is_sorted_positions():
    visible = parse_visible({**LIST, "indices": [2, 0]}, count=3)
    assert visible.indices == (0, 2)
    assert (visible.reason, visible.epoch, visible.revision) == ("ok", 1, 42)
    whole = parse_visible({**LIST, "policy": "p1", "site": "s1", "valid_until": 5}, count=3)
    assert (whole.policy, whole.site, whole.valid_until) == ("p1", "s1", 5.0)
    # Without these it is not remembered.
    assert (visible.policy, visible.site, visible.valid_until) == (None, None, None)


@pytest.mark.parametrize(
    ("field", "odd"),
    [
        *[
            ("indices", odd)
            for odd in (
                MISSING,
                None,
                {"0": 0},
                "0",
                [3],
                [-1],
                [0, 0],
                [True],
                [0.0],
                [None],
                ["0"],
            )
        ],
        *[("reason", odd) for odd in (MISSING, None, "fine", [], 1)],
        *[("epoch", odd) for odd in (MISSING, None, "1", True)],
        *[("revision", odd) for odd in (MISSING, None, 42.0, [])],
        *[(field, odd) for field in ("policy", "site") for odd in (1, [], False)],
        *[("valid_until", odd) for odd in ("1", True, [], math.nan, math.inf, 10**400)],
    ],
)
def test_malformed_list_is_unusable(field, odd):
    with pytest.raises(ResponseUnusableError):
        parse_visible(with_(LIST, field, odd), count=3)


CALLERS = {"reason": "ok", "reasons": ["ok", "token_expired"], "epoch": 1, "revision": 42}


def test_well_formed_callers_have_a_reason_each():
    callers = parse_callers(CALLERS, count=2)
    assert callers.reasons == (Reason.OK, Reason.TOKEN_EXPIRED)
    assert (callers.reason, callers.epoch, callers.revision) == ("ok", 1, 42)
    whole = parse_callers({**CALLERS, "policy": "p1", "site": "s1"}, count=2)
    assert (whole.policy, whole.site) == ("p1", "s1")


def test_callers_without_reasons_are_usable_only_in_an_outage():
    stale = parse_callers({"reason": "stale_data", "reasons": []}, count=2)
    assert (stale.reason, stale.reasons, stale.epoch) == (Reason.STALE_DATA, (), None)
    with pytest.raises(ResponseUnusableError):
        parse_callers({**CALLERS, "reasons": []}, count=2)


@pytest.mark.parametrize(
    ("field", "odd"),
    [
        *[("reason", odd) for odd in (MISSING, None, "fine", [], 1)],
        *[
            ("reasons", odd)
            for odd in (MISSING, None, "ok", {}, ["ok"], ["ok"] * 3, ["ok", 1], ["ok", "fine"])
        ],
        *[("epoch", odd) for odd in (MISSING, None, "1", True)],
        *[("revision", odd) for odd in (MISSING, None, 42.0, [])],
        *[(field, odd) for field in ("policy", "site") for odd in (1, [], False)],
        ("obligations", ["log"]),
    ],
)
def test_malformed_callers_are_unusable(field, odd):
    with pytest.raises(ResponseUnusableError):
        parse_callers(with_(CALLERS, field, odd), count=2)


@pytest.mark.parametrize("odd", [None, [], "ok", True, 1])
def test_callers_that_are_no_object_are_unusable(odd):
    with pytest.raises(ResponseUnusableError):
        parse_callers(odd, count=2)


@given(JSON, st.integers(0, 5))
def test_list_never_shows_an_action_not_queried(value, count):
    for answer in (value, {**LIST, "indices": value}):
        try:
            visible = parse_visible(answer, count=count)
        except ResponseUnusableError:
            continue
        assert set(visible.indices) <= set(range(count))


def test_query_has_arguments_only_when_given_and_hides_them_in_repr():
    assert "arguments" not in Action(name="search").as_input()
    action = Action(name="search", arguments={"q": "secret"})
    assert action.as_input()["arguments"] == {"q": "secret"}
    assert "secret" not in repr(action)


def test_principal_name_is_the_name_in_logs():
    assert str(Principal(type="token", id="lct_…2bd806c9")) == "mcptoken:lct_…2bd806c9"
    assert str(Principal(type="team", id="7f")) == "team:7f"
    assert str(Principal(type="jwt", id="u-17")) == "jwt:u-17"


def test_local_denial_has_one_reason_and_its_message():
    decision = Decision.refused(Reason.UNAVAILABLE)
    assert decision.reasons == ("unavailable",)
    assert decision.message == "The policy decision point is unavailable."
    assert (decision.epoch, decision.revision, decision.data_age_ms) == (None, None, None)


@pytest.mark.parametrize("obligations", [["mask"], {"mask": ["lib-a"]}, "mask", True])
def test_response_with_an_obligation_is_refused(obligations):
    with pytest.raises(ResponseUnusableError, match="obligations"):
        parse_decision({**ALLOW, "obligations": obligations})
    visible = {"indices": [0], "reason": "ok", "epoch": 1, "revision": 1}
    with pytest.raises(ResponseUnusableError, match="obligations"):
        parse_visible({**visible, "obligations": obligations}, count=1)
    assert parse_decision({**ALLOW, "obligations": []}).allow
    assert parse_visible({**visible, "obligations": None}, count=1).indices == (0,)
