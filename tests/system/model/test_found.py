"""What the model has found in the Rego, each in its smallest dataset, and mended since."""

import pytest

from .datasets import NOW, digest
from .queries import answers, differences

CALL = {
    "credential": {"kind": "token", "digest": digest("alice")},
    "action": {"method": "tools/call", "name": "search", "tags": []},
    "context": {},
}


def _world(**live):
    settings = {
        "lockdown": False,
        "staleness_limit": 30,
        "reconcile_limit": 600,
        "issuers": [],
        "listable": {},
    }
    token = {
        "label": "l",
        "user": "ada",
        "active": True,
        "expires_at": None,
        "libraries": [],
        "tools": ["*"],
    }
    sound = {
        "epoch": 2, "revision": 42, "since": {"00": 30}, "settings": settings,
        "tokens": {digest("alice"): token}, "users": {"ada": {"name": "Ada", "active": True}},
    }  # fmt: skip
    heartbeat = {
        "epoch": 2, "revision": 42, "policy": ["p"], "site": ["s"], "synced_at_ns": NOW, "reconciled_at_ns": NOW,
    }  # fmt: skip
    laid = {name: value for name, value in (sound | live).items() if value is not ...}
    return {
        "registry": {
            "base": {"00": {"epoch": 2, "revision": 30}},
            "live": laid,
            "heartbeat": heartbeat,
        },
        "lictor": {"manifest": {"revision": "p"}},
        "site": {
            "manifest": {"revision": "s", "clock": False, "arguments": False, "libraries": False}
        },
        "rules": {"deny": [], "tags": [], "name_tags": [], "hidden": [], "sealed": []},
    }


@pytest.mark.parametrize(
    ("live", "query", "reason"),
    [
        pytest.param({}, {}, "ok", id="nothing amiss"),
        pytest.param({"since": ...}, {}, "stale_data", id="live without since"),
        pytest.param({"since": {}}, {}, "stale_data", id="live goes on from no shard"),
        pytest.param({"revision": "42"}, {}, "stale_data", id="a revision that is text"),
        pytest.param({"since": {"00": None}}, {}, "stale_data", id="a shard since null"),
        pytest.param({}, {"min_epoch": 3}, "behind", id="an epoch alone is newer"),
        pytest.param({}, {"min_epoch": 1}, "ok", id="an epoch alone is older"),
    ],
)
def test_opa_and_the_model_answer(modelled_opa, live, query, reason):
    laid, asked = _world(**live), CALL | query
    assert differences(modelled_opa, laid, [asked])[1] == []
    assert answers(modelled_opa, laid, [asked])[0]["reason"] == reason
