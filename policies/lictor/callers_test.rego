package lictor_test

import data.dataset
import data.lictor

test_callers_have_the_reason_that_a_list_gives_each_of_them if {
	reasons := _callers(_credentials, {}, {}).reasons
	reasons == [reason | some credential in _credentials; reason := _list(credential, {}, {}).reason]
	count({reason | some reason in reasons}) > 8
}

test_callers_are_in_order_and_may_be_the_same if {
	alice := _token("alice")
	_callers([alice, _token("run-out"), alice], {}, {}).reasons == ["ok", "token_expired", "ok"]
	_callers([], {}, {}).reasons == []
}

test_callers_are_all_refused_for_what_concerns_all_of_them if {
	blocked := {
		"lockdown": {"live": {"settings": {"lockdown": true}}},
		"stale_data": {"heartbeat": {"synced_ago": 31}},
		"ok": {},
	}
	every reason, patch in blocked {
		callers := _callers([_token("alice"), _token("alice")], patch, {})
		callers.reason == reason
		callers.reasons == [reason, reason]
	}
	_callers([_token("alice")], {}, {"min_revision": 43}).reasons == ["behind"]
}

test_callers_whose_records_are_of_an_outdated_base_are_stale_alone if {
	patch := {"base": {"00": {"revision": 1}}}
	_callers([_token("alice"), {"kind": "anonymous"}], patch, {}).reasons == ["stale_data", "missing_token"]
	_callers([_token("alice")], patch, {}).reason == _callers([], patch, {}).reason
}

test_callers_name_the_state_that_they_were_checked_in if {
	callers := _callers([_token("alice")], {}, {})
	visible := _list(_token("alice"), {}, {})
	every name in ["epoch", "revision", "policy", "site"] {
		callers[name] == visible[name]
		callers[name] != null
	}
}

test_callers_are_unknown_while_opa_holds_what_it_must_not if {
	callers := lictor.callers with input as {"credentials": [_token("alice")]}
		with lictor.registry.intact as false
		with data.registry as _registry({})
		with data.site as dataset.site
		with lictor.manifest as dataset.lictor.manifest
	callers == {
		"reason": "stale_data", "reasons": [], "epoch": null, "revision": null,
		"policy": null, "site": null,
	}
}

test_a_token_is_good_while_both_of_its_shards_are_current if {
	_good({"tokens", "users"})
	not _good({"tokens"})
	not _good({"users"})
}

test_no_other_credential_is_a_good_token if {
	registry := {"live": _all_live}
	not lictor._is_good_token(object.union(_token("alice"), {"kind": "jwt"})) with data.registry as registry
		with lictor.registry.shard as _kind
		with lictor.registry.shard_is_current as _is_current
		with input as {"tokens", "users"}
}

# Each kind of record has a shard of its own.
_good(current) if {
	lictor._is_good_token(_token("alice")) with data.registry as {"live": _all_live}
		with lictor.registry.shard as _kind
		with lictor.registry.shard_is_current as _is_current
		with input as current
}

_all_live := object.union(dataset.registry.base["00"], dataset.registry.live)

# regal ignore:argument-always-wildcard
_kind(kind, _) := kind

_is_current(id) if id in input

_token(bearer) := {"kind": "token", "digest": crypto.sha256(bearer)}

_tokens := ["alice", "switched-off", "run-out", "odd-expiry", "of-bob", "of-nobody", "rotated-away", "unknown"]

_team := {"kind": "jwt", "kid": "team-1", "claims": {
	"iss": "mnemosyne", "typ": "team", "sub": "team:7f000000-0000-4000-8000-000000000001", "jti": "jti-docs",
	"exp": 4102444800,
}}

_team_patches := [
	{},
	{"kid": "team-old"},
	{"kid": "none"},
	{"claims": {"iss": "daedalus"}},
	{"claims": {"typ": "turn"}},
	{"claims": {"jti": "jti-old"}},
	{"claims": {"sub": "team:x"}},
	{"claims": {"sub": "team:7f000000-0000-4000-8000-000000000003", "jti": "jti-idle"}},
	{"claims": {"sub": "team:7f000000-0000-4000-8000-000000000004", "jti": "jti-orphans"}},
]

_credentials := array.flatten([
	[_token(bearer) | some bearer in _tokens],
	[object.union(_team, patch) | some patch in _team_patches],
	{"kind": "anonymous"},
])

_callers(credentials, patch, bound) := callers if {
	callers := lictor.callers with input as object.union({"credentials": credentials}, bound)
		with data.registry as _registry(patch)
		with data.site as dataset.site
		with lictor.manifest as dataset.lictor.manifest
}
