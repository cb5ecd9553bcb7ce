package lictor

import data.lictor.caller
import data.lictor.registry

# METADATA
# title: Callers
# description: |
#   For each credential in `input.credentials`, the first reason to refuse all of its actions, or `ok`: what `visible`
#   says about it. One query checks many callers that have something open.
# entrypoint: true
callers := {
	"reason": _first(_common),
	"reasons": _callers_reasons,
	"epoch": epoch,
	"revision": revision,
	"policy": policy,
	"site": site,
} if {
	registry.intact
}

callers := {
	"reason": "stale_data",
	"reasons": [],
	"epoch": null,
	"revision": null,
	"policy": null,
	"site": null,
} if {
	not registry.intact
}

# What concerns every caller is evaluated once: the query has no credential of its own.
_common := _blocked | {"ok"}

# METADATA
# schemas:
#   - input: schema.callers
_callers_reasons := [_first(codes | _common) |
	some credential in input.credentials
	codes := _against(credential)
]

# Most callers hold a token that nothing speaks against. For these, the positive facts are enough: what is evaluated
# below `with` is not shared between callers, and takes twice the time.
_against(credential) := set() if {
	_is_good_token(credential)
} else := codes if {
	# The rules about a caller read `input.credential`.
	# regal ignore:with-outside-test-context
	codes := _against_caller with input as {"credential": credential}
}

# The facts of `caller.granted` for a token, and that they are current.
_is_good_token(credential) if {
	credential.kind == "token"
	token := registry.record("tokens", credential.digest)
	token.active == true
	caller.is_current(token)
	user := registry.record("users", token.user)
	user.active == true
	registry.shard_is_current(registry.shard("tokens", credential.digest))
	registry.shard_is_current(registry.shard("users", token.user))
}

default _against_caller := {"stale_data"}

_against_caller := caller.reasons if _caller_shards_are_current
