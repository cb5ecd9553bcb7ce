package lictor

import data.lictor.caller
import data.lictor.registry
import data.registry.live

# METADATA
# title: Visible actions
# description: The indices of the actions in `input.actions` that this credential may see in a list.
# entrypoint: true
visible := {
	"indices": sort(_visible),
	"reason": _visible_reason,
	"epoch": epoch,
	"revision": revision,
	"policy": policy,
	"site": site,
	"valid_until": _visible_until,
} if {
	registry.intact
}

visible := {
	"indices": [],
	"reason": "stale_data",
	"epoch": null,
	"revision": null,
	"policy": null,
	"site": null,
	"valid_until": null,
} if {
	not registry.intact
}

default _visible := set()

_visible := _permitted - _site_denied if {
	_preconditions_met
	caller.granted
	count(caller.reasons) == 0
}

_visible := _listed - _site_denied if {
	_preconditions_met
	count(caller.reasons) > 0
}

_listed contains i if {
	patterns := {pattern | some pattern in _listable; not _qualified(pattern)}
	some i, action in actions
	action.method == "tools/call"
	_calls(patterns, action)
}

_listed contains i if {
	some i, action in actions
	action.method in _qualified_methods
	_qualifies(_listable, action)
}

# The actions visible without a bearer, and with an invalid one.
_listable := live.settings.listable.anonymous if {
	not input.credential.kind in {"token", "jwt"}
	not input.credential.rejected
} else := patterns if {
	patterns := live.settings.listable.rejected
}

default _visible_until := null

_visible_until := _unchanged_until if count(_blocked & {"behind", "stale_data"}) == 0

_visible_reason := _first(((_blocked | caller.reasons) | {"ok"}))
