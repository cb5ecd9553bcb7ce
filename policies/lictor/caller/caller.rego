# METADATA
# title: The caller
# description: |
#   The caller, its grant, and the reasons against it, for each kind of credential. The grant consists of
#   positive facts; `reasons` are their absence. A call needs all of the first and none of the second.
package lictor.caller

import data.lictor.registry
import data.registry.live

# METADATA
# description: The principal that the credential names, when the registry knows it; else undefined.
# scope: document
principal := {"type": "token", "id": _token.label, "name": _user.name, "user": _token.user} if {
	input.credential.kind == "token"
}

principal := {"type": "team", "id": _team_id, "name": _team.name, "user": _team.owner} if {
	input.credential.claims.typ == "team"
}

principal := {"type": "jwt", "id": input.credential.claims.sub, "name": null, "user": null} if {
	input.credential.kind == "jwt"
	not input.credential.claims.typ == "team"
}

# METADATA
# description: The tool patterns of the caller's record.
# scope: document
tools := _token.tools if input.credential.kind == "token"

tools := _team.tools if input.credential.kind == "jwt"

# METADATA
# description: True if everything that the credential depends on exists, and is active and current.
# scope: document
granted if {
	input.credential.kind == "token"
	_token.active == true
	is_current(_token)
	_user.active == true
}

granted if {
	input.credential.kind == "jwt"
	input.credential.claims.iss == "mnemosyne"
	input.credential.claims.typ == "team"
	_issuer_accepted
	_key.active == true
	_team.active == true
	_user.active == true
	_team.active_jti == input.credential.claims.jti
}

# METADATA
# description: The libraries of the caller's record, before the site's rules.
# scope: document
libraries contains library if {
	input.credential.kind == "token"
	some library in _token.libraries
}

libraries contains library if {
	input.credential.kind == "jwt"
	some workspace in _team.workspaces
	some library in registry.record("workspaces", workspace).libraries
}

# METADATA
# description: |
#   The reasons against the caller, as the contract's codes. Each rule starts with the kind of credential
#   that it is about, so that OPA's index skips the others.
# scope: document
reasons contains "missing_token" if not input.credential.kind in {"token", "jwt"}

reasons contains "invalid_token" if {
	input.credential.kind == "token"
	not is_object(_token)
}

reasons contains "token_deactivated" if {
	input.credential.kind == "token"
	not _token.active == true
	is_object(_token)
}

reasons contains "token_expired" if {
	input.credential.kind == "token"
	not is_current(_token)
	is_object(_token)
}

reasons contains "user_disabled" if {
	input.credential.kind == "token"
	not _user.active == true
	is_object(_token)
}

reasons contains "key_unknown" if {
	input.credential.kind == "jwt"
	not is_object(_key)
}

reasons contains "key_retired" if {
	input.credential.kind == "jwt"
	not _key.active == true
	is_object(_key)
}

reasons contains "issuer_invalid" if {
	input.credential.kind == "jwt"
	not _issuer_accepted
}

reasons contains "per_turn_retired" if {
	input.credential.kind == "jwt"
	not input.credential.claims.typ == "team"
}

reasons contains "issuer_invalid" if {
	input.credential.claims.typ == "team"
	not input.credential.claims.iss == "mnemosyne"
}

reasons contains "invalid_token" if {
	input.credential.claims.typ == "team"
	not _team_id
}

reasons contains "team_unknown" if {
	input.credential.claims.typ == "team"
	not is_object(_team)
	_team_id
}

reasons contains "team_inactive" if {
	input.credential.claims.typ == "team"
	not _team.active == true
	is_object(_team)
}

reasons contains "owner_disabled" if {
	input.credential.claims.typ == "team"
	not _user.active == true
	is_object(_team)
}

reasons contains "invalid_token" if {
	input.credential.claims.typ == "team"
	not _team.active_jti == input.credential.claims.jti
	is_object(_team)
}

# METADATA
# description: The shards that the decision depends on, even if a record was not found.
# scope: document
shards contains registry.shard("tokens", input.credential.digest) if input.credential.kind == "token"

shards contains registry.shard("keys", input.credential.kid) if input.credential.kind == "jwt"

shards contains registry.shard("teams", _team_id) if input.credential.kind == "jwt"

shards contains registry.shard("users", _user_id)

shards contains registry.shard("workspaces", workspace) if {
	input.credential.kind == "jwt"
	some workspace in _team.workspaces
}

# METADATA
# description: The times at which the credential expires by time alone.
# scope: document
deadlines contains _token.expires_at if {
	input.credential.kind == "token"
	is_number(_token.expires_at)
}

deadlines contains input.credential.claims.exp if input.credential.kind == "jwt"

# METADATA
# description: The name of a disabled owner in the message.
user_name := name if {
	name := _user.name
} else := _user_id

default _key := null

_key := registry.record("keys", input.credential.kid) if input.credential.kind == "jwt"

default _token := null

_token := registry.record("tokens", input.credential.digest) if input.credential.kind == "token"

_team_id := substring(input.credential.claims.sub, 5, -1) if {
	input.credential.kind == "jwt"
	input.credential.claims.typ == "team"
	startswith(input.credential.claims.sub, "team:")
}

default _team := null

_team := registry.record("teams", _team_id) if input.credential.kind == "jwt"

_user_id := _token.user if input.credential.kind == "token"

_user_id := _team.owner if input.credential.kind == "jwt"

_user := registry.record("users", _user_id)

# METADATA
# description: Whether a token has not expired.
# scope: document
is_current(token) if token.expires_at == null

# Comparing null or text with a number is defined too, hence is_number.
is_current(token) if {
	is_number(token.expires_at)
	registry.in_future(token.expires_at)
}

# An undefined ref inside `not f(…)` makes the whole expression undefined, so the negated rule stands on its own.
_issuer_accepted if input.credential.claims.iss in live.settings.issuers
