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

	# The rules about a caller read `input.credential`.
	# regal ignore:with-outside-test-context
	codes := _against_caller with input as {"credential": credential}
]

_against_caller := caller.reasons if {
	_caller_shards_are_current
} else := caller.reasons | {"stale_data"}
