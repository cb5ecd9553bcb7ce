package lictor.caller_test

import data.dataset
import data.lictor.caller
import data.lictor.registry

# Each positive fact of a grant, by a caller that lacks this one alone. `lictor` has a refusal beside each, so that
# no decision shows a fact that is missing here.

_alice := {"kind": "token", "digest": crypto.sha256("alice")}

_docs := {"kind": "jwt", "kid": "team-1", "claims": {
	"iss": "mnemosyne", "typ": "team", "sub": "team:7f000000-0000-4000-8000-000000000001", "jti": "jti-docs",
	"exp": 4102444800,
}}

test_a_token_is_granted_what_it_has if {
	_granted(_alice, dataset.registry)
}

test_a_token_that_lacks_one_fact_is_not_granted if {
	every bearer in ["switched-off", "run-out", "odd-expiry", "of-bob", "of-nobody", "rotated-away", "unknown"] {
		not _granted({"kind": "token", "digest": crypto.sha256(bearer)}, dataset.registry)
	}
}

test_a_team_is_granted_what_it_has if {
	_granted(_docs, dataset.registry)
}

test_a_team_that_lacks_one_fact_is_not_granted if {
	every patch in [
		{"kid": "team-old"},
		{"kid": "none"},
		{"claims": {"iss": "daedalus"}},
		{"claims": {"typ": "turn"}},
		{"claims": {"jti": "jti-old"}},
		{"claims": {"sub": "7f000000-0000-4000-8000-000000000001"}},
		{"claims": {"sub": "team:7f000000-0000-4000-8000-000000000003", "jti": "jti-idle"}},
		{"claims": {"sub": "team:7f000000-0000-4000-8000-000000000004", "jti": "jti-orphans"}},
	] {
		not _granted(object.union(_docs, patch), dataset.registry)
	}
	elsewhere := object.union(dataset.registry, {"live": {"settings": {"issuers": ["daedalus"]}}})
	not _granted(_docs, elsewhere)
}

# What one kind of credential carries says nothing about another.
test_a_credential_of_another_kind_has_no_record if {
	_records(object.union(_both, {"kind": "token"})) == {"token"}
	_records(object.union(_both, {"kind": "jwt"})) == {"key", "team"}
	_records(object.union(_both, {"kind": "anonymous"})) == set()
}

test_a_caller_without_a_record_has_null_for_it if {
	records := [caller._token, caller._key, caller._team] with input as {"credential": {"kind": "anonymous"}}
		with data.registry as dataset.registry
	records == [null, null, null]
}

test_a_team_id_is_that_of_a_team_jwt_alone if {
	team_id := caller._team_id with input as {"credential": _docs}
	team_id == "7f000000-0000-4000-8000-000000000001"
	not caller._team_id with input as {"credential": object.union(_docs, {"kind": "token"})}
	not caller._team_id with input as {"credential": object.union(_docs, {"claims": {"typ": "turn"}})}
}

test_the_principal_is_of_the_credentials_own_kind if {
	turn := object.union(_docs, {"claims": {"typ": "turn"}})
	principal := caller.principal with input as {"credential": turn} with data.registry as dataset.registry
	principal.type == "jwt"
	every kind in ["anonymous", "other"] {
		not caller.principal with input as {"credential": object.union(turn, {"kind": kind})}
			with data.registry as dataset.registry
	}
	mixed := object.union(turn, _alice)
	token := caller.principal with input as {"credential": mixed} with data.registry as dataset.registry
	token.type == "token"
}

test_an_answer_rests_on_the_shards_of_the_records_that_it_reads if {
	_shards(_alice) == {registry.shard("tokens", _alice.digest), registry.shard("users", "ada")}
		with data.registry.live as {"since": _since}
	of_bob := {"kind": "token", "digest": crypto.sha256("of-bob")}
	_shards(of_bob) == {registry.shard("tokens", of_bob.digest), registry.shard("users", "bob")}
		with data.registry.live as {"since": _since}
	read := {
		["keys", "team-1"],
		["teams", "7f000000-0000-4000-8000-000000000001"],
		["users", "ada"],
		["workspaces", "w-docs"],
		["workspaces", "w-maps"],
	}
	shards := {registry.shard(kind, id) | some [kind, id] in read} with data.registry.live as {"since": _since}
	count(shards) == count(read)
	_shards(_docs) == shards
}

test_an_answer_rests_on_no_shard_of_another_kind_of_credential if {
	_shards(object.union(_docs, _alice)) == _shards(_alice)
	_shards(object.union(_alice, _docs)) == _shards(_docs)
	_shards({"kind": "anonymous", "digest": _alice.digest, "kid": "team-1"}) == set()
}

test_a_credential_ends_by_its_own_expiry if {
	_deadlines(_alice) == set()
	_deadlines({"kind": "token", "digest": crypto.sha256("everything")}) == {4102444800}
	_deadlines({"kind": "token", "digest": crypto.sha256("odd-expiry")}) == set()
	_deadlines(_docs) == {4102444800}
	_deadlines(object.union(_docs, _alice)) == set()
}

_since[id] := 30 if {
	some n in numbers.range(0, 63)
	id := sprintf("%02x", [n])
}

_both := object.union(_docs, _alice)

_records(credential) := {name | some name, record in records; is_object(record)} if {
	records := {"token": caller._token, "key": caller._key, "team": caller._team} with input as {"credential": credential}
		with data.registry as dataset.registry
}

_granted(credential, records) if {
	caller.granted with input as {"credential": credential} with data.registry as records
}

# Everything in `live`, where a record is found whatever its shard.
_shards(credential) := shards if {
	live := object.union_n([dataset.registry.base["00"], dataset.registry.live, {"since": _since}])
	shards := caller.shards with input as {"credential": credential} with data.registry as {"live": live}
}

_deadlines(credential) := deadlines if {
	deadlines := caller.deadlines with input as {"credential": credential} with data.registry as dataset.registry
}
