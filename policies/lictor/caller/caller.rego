# METADATA
# title: The caller
# description: |
#   Who calls, what they were granted, and what speaks against them, for each kind of credential. The
#   grant is positive facts; `reasons` are their absence. A call needs the first and none of the second.
package lictor.caller

import data.lictor.registry
import data.registry.live

# METADATA
# description: What the credential is; one of `token`, `team`, `per_turn` and `anonymous`.
# scope: document
default kind := "anonymous"

kind := "token" if input.credential.kind == "token"

kind := "team" if {
	input.credential.kind == "jwt"
	input.credential.claims.typ == "team"
}

kind := "per_turn" if {
	input.credential.kind == "jwt"
	not input.credential.claims.typ == "team"
}

# METADATA
# description: The principal that the credential names, when the registry knows it; else undefined.
# scope: document
principal := {"type": "token", "id": _token.label, "name": _user.name, "user": _token.user} if kind == "token"

principal := {"type": "team", "id": _team_id, "name": _team.name, "user": _team.owner} if kind == "team"

principal := {"type": "jwt", "id": _claims.sub, "name": null, "user": null} if kind == "per_turn"

# METADATA
# description: The tool patterns of the caller's record.
# scope: document
tools := _token.tools

tools := _team.tools

# METADATA
# description: True when everything that the credential rests on is there, active and current.
# scope: document
granted if {
	_token.active == true
	_current
	_user.active == true
}

granted if {
	_key.active == true
	_claims.iss == "mnemosyne"
	_issuer_accepted
	_team.active == true
	_user.active == true
	_team.active_jti == _claims.jti
}

# METADATA
# description: The libraries of the caller's record, before the site's rules.
# scope: document
libraries contains library if some library in _token.libraries

libraries contains library if {
	some workspace in _team.workspaces
	some library in registry.record("workspaces", workspace).libraries
}

# METADATA
# description: What speaks against the caller, by the contract's codes.
# scope: document
reasons contains "missing_token" if kind == "anonymous"

reasons contains "invalid_token" if {
	kind == "token"
	not is_object(_token)
}

reasons contains "token_deactivated" if {
	is_object(_token)
	not _token.active == true
}

reasons contains "token_expired" if {
	is_object(_token)
	not _current
}

reasons contains "user_disabled" if {
	is_object(_token)
	not _user.active == true
}

reasons contains "key_unknown" if {
	input.credential.kind == "jwt"
	not is_object(_key)
}

reasons contains "key_retired" if {
	is_object(_key)
	not _key.active == true
}

reasons contains "issuer_invalid" if {
	input.credential.kind == "jwt"
	not _issuer_accepted
}

reasons contains "issuer_invalid" if {
	kind == "team"
	not _claims.iss == "mnemosyne"
}

reasons contains "per_turn_retired" if kind == "per_turn"

reasons contains "invalid_token" if {
	kind == "team"
	not _team_id
}

reasons contains "team_unknown" if {
	_team_id
	not is_object(_team)
}

reasons contains "team_inactive" if {
	is_object(_team)
	not _team.active == true
}

reasons contains "owner_disabled" if {
	is_object(_team)
	not _user.active == true
}

reasons contains "invalid_token" if {
	is_object(_team)
	not _team.active_jti == _claims.jti
}

# METADATA
# description: The shards that the answer rests on, also where a record was not found.
# scope: document
shards contains registry.shard("tokens", input.credential.digest) if kind == "token"

shards contains registry.shard("keys", input.credential.kid) if input.credential.kind == "jwt"

shards contains registry.shard("teams", _team_id)

shards contains registry.shard("users", _user_id)

shards contains registry.shard("workspaces", workspace) if some workspace in _team.workspaces

# METADATA
# description: The moments at which the credential ends by time alone.
# scope: document
deadlines contains _token.expires_at if is_number(_token.expires_at)

deadlines contains _claims.exp

# METADATA
# description: What a disabled owner is called in the message.
# scope: document
user_name := name if {
	name := _user.name
} else := _user_id

_claims := input.credential.claims if input.credential.kind == "jwt"

default _key := null

_key := registry.record("keys", input.credential.kid) if input.credential.kind == "jwt"

default _token := null

_token := registry.record("tokens", input.credential.digest) if kind == "token"

_team_id := substring(_claims.sub, 5, -1) if {
	kind == "team"
	startswith(_claims.sub, "team:")
}

default _team := null

_team := registry.record("teams", _team_id)

_user_id := _token.user

_user_id := _team.owner

_user := registry.record("users", _user_id)

# A comparison of null or of text with a number has an answer too, hence is_number.
_current if _token.expires_at == null

_current if {
	is_number(_token.expires_at)
	registry.now < _token.expires_at
}

# Refs inside `not f(…)` make the whole expression undefined when they are; so what is negated stands on its own.
_issuer_accepted if _claims.iss in live.settings.issuers
