# METADATA
# title: The decision
# description: |
#   May this credential take this action, and which libraries may it touch? `decision` is about the one
#   `action` of a call, `visible` about all `actions` of a list; a list shows what a call would be allowed.
# scope: subpackages
# schemas:
#   - input: schema.input
#   - data.registry: schema.registry
package lictor

import data.lictor.caller
import data.lictor.registry
import data.registry.live

# METADATA
# title: Decision
# description: The complete decision on one action. Never undefined; `allow` only on positive facts.
# entrypoint: true
decision := _allowed if {
	registry.intact
	allow
} else := _refused if {
	registry.intact
} else := _of_unknown_data

# Neither rules that arrived with data nor data from elsewhere affect these constants. They are not a default, since
# they must conflict with a decision that arrived with data.
_of_unknown_data := {
	"allow": false,
	"reason": "stale_data",
	"reasons": ["stale_data"],
	"message": "Policy data is too old to decide on.",
	"principal": null,
	"libraries": [],
	"epoch": null,
	"revision": null,
	"policy": null,
	"site": null,
	"data_age_ms": null,
	"valid_until": null,
	"uses_arguments": true,
	"shadow": null,
}

_allowed := {
	"allow": true,
	"reason": "ok",
	"reasons": ["ok"],
	"message": "",
	"principal": caller.principal,
	"libraries": _effective_libraries,
	"epoch": live.epoch,
	"revision": live.revision,
	"policy": data.lictor.manifest.revision,
	"site": data.site.manifest.revision,
	"data_age_ms": registry.age_ms,
	"valid_until": _unchanged_until,
	"uses_arguments": uses_arguments,
	"shadow": null,
}

_refused := {
	"allow": false,
	"reason": _reason,
	"reasons": sort(_reasons),
	"message": _refusal_message,
	"principal": principal,
	"libraries": [],
	"epoch": epoch,
	"revision": revision,
	"policy": policy,
	"site": site,
	"data_age_ms": registry.age_ms,
	"valid_until": _refused_until,
	"uses_arguments": uses_arguments,
	"shadow": shadow,
}

# METADATA
# scope: document
# description: |
#   The actions of the query, in order. They include `arguments` only if the site's rules name them
#   (`lictor policies build` detects this), so that decisions never depend on them unnoticed.
actions := [object.remove(action, {"arguments"}) | some action in _given] if _unread

actions := _given if not _unread

# METADATA
# description: The caller's libraries before the site's rules; for site rules to choose from.
granted_libraries := caller.libraries

# METADATA
# description: The principal, or null for a caller that the registry does not know.
# scope: document
default principal := null

principal := caller.principal

# METADATA
# description: A library's record (`name`, `tags`), for site rules; undefined for one without tags.
library(uid) := registry.record("libraries", uid)

# METADATA
# description: True only if every positive fact holds and no reason for a denial applies.
# scope: document
default allow := false

allow if {
	_preconditions_met
	caller.granted
	_call_permitted
	count(_refusals) == 0
}

# METADATA
# description: What runs in shadow mode despite a denial; never beyond the caller's own grant.
# scope: document
default shadow := null

shadow := {"libraries": _effective_libraries} if {
	input.context.shadow == true
	not allow
	_preconditions_met
	caller.granted
	input.action
	count(_refusals) > 0
	every refusal in _refusals {
		_shadowable(refusal)
	}
}

# The reasons against a call. The default is unreachable while every positive fact above has its denial below; if one is
# ever missing, the decision is an outage.
default _reasons := {"unavailable"}

_reasons := _refusals if count(_refusals) > 0

# The first that applies, in the contract's order.
_reason := _first(_reasons)

# METADATA
# description: The registry's epoch that this decision was made from, or null.
# scope: document
default epoch := null

epoch := live.epoch

# METADATA
# description: The registry's revision that this decision was made from, or null.
# scope: document
default revision := null

revision := live.revision

# METADATA
# description: The revision of the product's rules that made this decision, or null.
# scope: document
default policy := null

policy := data.lictor.manifest.revision

# METADATA
# description: The revision of the site's rules that made this decision, or null.
# scope: document
default site := null

site := data.site.manifest.revision

# A query without an action has no message about it.
default _refusal_message := ""

_refusal_message := _message[_reason]

# When time alone could change the decision, in seconds since 1970; null for never cache.
default _unchanged_until := null

_unchanged_until := min({registry.deadline} | caller.deadlines) if data.site.manifest.clock == false

# An outage may end at any time.
default _refused_until := null

_refused_until := _unchanged_until if count(_reasons & {"behind", "stale_data", "unavailable"}) == 0

# METADATA
# description: |
#   Whether the arguments of the action can change the decision. True unless proven otherwise: by no rule of the
#   site reading them, or by each rule that does naming the actions that it can concern, and this not being one.
# scope: document
default uses_arguments := true

uses_arguments := false if {
	data.site.manifest.arguments == false
} else := false if {
	is_array(data.site.manifest.concerns)
	action := input.action
	every concern in data.site.manifest.concerns {
		_cannot_concern(concern, action)
	}
}

_cannot_concern(concern, action) if {
	is_array(concern.names)
	not action.name in concern.names
}

_cannot_concern(concern, action) if {
	is_array(concern.methods)
	not action.method in concern.methods
}

_cannot_concern(concern, action) if {
	some tag in concern.tags
	not tag in object.get(action, "tags", [])
}

# A rule that hides by tag would not hide a library whose record the publisher could not read.
_libraries_without_record := {uid | some uid in caller.libraries; library(uid).tags == null} if {
	data.site.manifest.libraries
}

default _effective_libraries := []

_effective_libraries := sort(_unhidden) if data.site.manifest.libraries == false

_effective_libraries := sort(_unhidden - _libraries_without_record) if not data.site.manifest.libraries == false

# Denials of this action alone; those of the caller, lockdown and outages stop it in any mode.
_shadowable(refusal) if refusal in {"tool_not_allowed", "site_rule"}

_shadowable(refusal) if startswith(refusal, "site:")

_given := [input.action]

_given := input.actions if not input.action

# Lists have none, and checking each of their actions for them would be a tenth of the work.
_unread if {
	not uses_arguments
	_ := input.action.arguments
}

# The preconditions of every allow.
_preconditions_met if {
	registry.intact
	registry.caught_up
	registry.fresh
	live.settings.lockdown == false
	_shards_are_current
}

_shards_are_current if {
	_caller_shards_are_current
	_tags_are_current
}

_caller_shards_are_current if {
	every id in caller.shards {
		registry.shard_is_current(id)
	}
}

_tags_are_current if data.site.manifest.libraries == false

_tags_are_current if registry.all_shards_are_current

# Outages and lockdown concern every action; so do the caller's reasons. The rest is about one action.
_blocked contains "behind" if not registry.caught_up

_blocked contains "stale_data" if not registry.fresh

_blocked contains "stale_data" if not _shards_are_current

_blocked contains "lockdown" if not live.settings.lockdown == false

_refusals := caller.reasons | _action_refusals if {
	_preconditions_met
} else := (_blocked | caller.reasons) | _action_refusals

_action_refusals contains "tool_not_allowed" if {
	not _call_permitted
	caller.principal.type in {"token", "team"}
}

_action_refusals contains "site_rule" if _call_denied

_action_refusals contains sprintf("site:%v", [rule.code]) if some rule in _site_rules
