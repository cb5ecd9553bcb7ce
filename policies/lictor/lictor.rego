# METADATA
# title: The decision
# description: |
#   May this credential take this action, and which libraries may it touch? Both entrypoints range over
#   `actions`: one for a call, many for a list, so that a list shows what a call would be allowed.
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
# description: The whole answer for one action. Never undefined; `allow` only on positive facts.
# entrypoint: true
decision := {
	"allow": allow,
	"reason": reason,
	"reasons": sort(reasons),
	"message": message,
	"principal": principal,
	"libraries": libraries,
	"epoch": epoch,
	"revision": revision,
	"policy": policy,
	"site": site,
	"data_age_ms": registry.age_ms,
	"valid_until": valid_until,
	"uses_arguments": uses_arguments,
	"shadow": shadow,
}

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
}

# METADATA
# scope: document
# description: |
#   The actions in question, in order. `arguments` are there only where the site's rules name them
#   (`lictor policies build` finds out), so that no answer depends on them unseen.
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
# description: The libraries that the call may touch, sorted; none where it is refused.
# scope: document
default libraries := []

libraries := _bounds if allow

# METADATA
# description: True only when every positive fact is there and nothing speaks against the action.
# scope: document
default allow := false

allow if {
	_open
	caller.granted
	input.action
	0 in _permitted
	count(_refusals) == 0
}

# METADATA
# description: What runs although it is refused, where the server only watches; never beyond the caller's own grant.
# scope: document
default shadow := null

shadow := {"libraries": _bounds} if {
	input.context.shadow == true
	not allow
	_open
	caller.granted
	input.action
	count(_refusals) > 0
	every refusal in _refusals {
		_only_watched(refusal)
	}
}

# METADATA
# description: Everything that applies, unsorted; `ok` stands alone.
# scope: document
reasons := {"ok"} if allow

reasons := _refusals if {
	not allow
	count(_refusals) > 0
}

# Unreachable while every positive fact above has its refusal below; if one is ever forgotten, an outage.
reasons := {"unavailable"} if {
	not allow
	count(_refusals) == 0
}

# METADATA
# description: The first reason that applies, in the contract's order.
# scope: document
reason := "ok" if allow

reason := _first(reasons) if not allow

# METADATA
# description: The reason for people; nothing where the call is allowed.
# scope: document
default message := ""

message := _message[reason] if not allow

# METADATA
# description: The registry's epoch that this answer was made from, or null.
# scope: document
default epoch := null

epoch := live.epoch

# METADATA
# description: The registry's revision that this answer was made from, or null.
# scope: document
default revision := null

revision := live.revision

# METADATA
# description: The revision of the product's rules that made this answer, or null.
# scope: document
default policy := null

policy := data.lictor.manifest.revision

# METADATA
# description: The revision of the site's rules that made this answer, or null.
# scope: document
default site := null

site := data.site.manifest.revision

# METADATA
# description: When this answer could change by time alone, in seconds since 1970; null for never cache.
# scope: document
default valid_until := null

valid_until := _unchanged_until if count(reasons & {"behind", "stale_data", "unavailable"}) == 0

# METADATA
# description: Whether the arguments of an action can change the answer. True unless shown otherwise.
# scope: document
default uses_arguments := true

uses_arguments := data.site.manifest.arguments

_unchanged_until := min({registry.deadline} | caller.deadlines) if data.site.manifest.clock == false

# A rule that hides by tag would not hide a library whose record the publisher could not tell.
_untold := set() if data.site.manifest.libraries == false

_untold := {uid | some uid in caller.libraries; library(uid).tags == null} if data.site.manifest.libraries

_bounds := sort((caller.libraries - {library | some library in data.site.hidden}) - _untold)

# Refusals of this very action; those of the caller, lockdown and outages stop it in any mode.
_only_watched(refusal) if refusal in {"tool_not_allowed", "site_rule"}

_only_watched(refusal) if startswith(refusal, "site:")

_given := [input.action]

_given := input.actions if not input.action

# A list has none, and to look at each of its actions for them is a tenth of the work.
_unread if {
	not uses_arguments
	_ := input.action.arguments
}

# What must hold before anything is allowed to anyone.
_open if {
	registry.caught_up
	registry.fresh
	live.settings.lockdown == false
	_fitting
}

_fitting if {
	every id in caller.shards {
		registry.fits(id)
	}
	_tags_fit
}

_tags_fit if data.site.manifest.libraries == false

_tags_fit if registry.all_fit

# Outages and lockdown concern every action; so do the caller's reasons. The rest is about one action.
_blocked contains "behind" if not registry.caught_up

_blocked contains "stale_data" if not registry.fresh

_blocked contains "stale_data" if not _fitting

_blocked contains "lockdown" if not live.settings.lockdown == false

_refusals := (_blocked | caller.reasons) | _action_refusals

_action_refusals contains "tool_not_allowed" if {
	caller.principal.type in {"token", "team"}
	not 0 in _permitted
}

_action_refusals contains "site_rule" if 0 in _site_denied

_action_refusals contains sprintf("site:%v", [rule.code]) if some rule in _site_rules

# To `*` everything is granted, whatever kind of thing it is; there is no need to look at 500 names.
_permitted contains i if {
	_everything
	some i, action in actions
	action.method in _methods
}

_permitted contains i if {
	not _everything
	count(_named_tools) > 0
	some i, name in _called
	name in _named_tools
}

_permitted contains i if {
	not _everything
	some pattern in (_tool_patterns - _named_tools)
	some i, name in _called
	glob.match(pattern, null, name)
}

_permitted contains i if {
	not _everything
	count(_called) < count(actions)
	some i, action in actions
	_may(action)
}

# A comprehension is made once: as a rule it is evaluated for each use, in 2.5 times as long.
# regal ignore:prefer-set-or-object-rule
_called := {i: action.name | some i, action in actions; action.method == "tools/call"}

_may(action) if {
	action.method in _qualified_methods
	_qualifies(caller.tools, action)
}

# What concerns the caller's own session alone needs no grant; all else must hold for it too.
_may(action) if action.method == "logging/setLevel"

_methods := _qualified_methods | {"tools/call", "logging/setLevel"}

# Methods whose grants begin with the method's name, as in `prompts/get:*`. No other is ever granted.
_qualified_methods := {
	"completion/complete", "prompts/get", "resources/read", "resources/subscribe",
	"subscriptions/listen",
}

_everything if "*" in caller.tools

_tool_patterns contains pattern if {
	some pattern in caller.tools
	not _qualified(pattern)
}

# What has no sign of a pattern in it is looked up, and not matched with each of 500 names.
_named_tools contains pattern if {
	some pattern in _tool_patterns
	regex.match(`^[0-9A-Za-z_./:-]+$`, pattern)
}

# A pattern for one method is none for tools.
_qualified(pattern) if {
	parts := split(pattern, ":")
	count(parts) > 1
	parts[0] in _qualified_methods
}

# Patterns without separators, so that `*` is everything.
_calls(patterns, action) if {
	some pattern in patterns
	glob.match(pattern, null, action.name)
}

# The method is text and no pattern; what comes after it is one.
_qualifies(patterns, action) if {
	prefix := concat("", [action.method, ":"])
	some pattern in patterns
	startswith(pattern, prefix)
	glob.match(substring(pattern, count(prefix), -1), null, action.name)
}

_site_denied contains i if {
	count(_denied) > 0
	some i, action in actions
	_is_denied(action)
}

_site_denied contains i if {
	some part in _denied_parts
	some i, action in actions
	object.subset(action, part)
}

# A rule without an action, code and message was meant to refuse something: it refuses everything.
_site_denied contains i if {
	_malformed
	some i, _ in actions
}

_is_denied(action) if action.name in _denied

_is_denied(action) if action in _denied

_denied contains rule.action if {
	some rule in data.site.deny
	_well_formed(rule)
}

# Whole actions, as rules take them from `actions`, are looked up. The others are few. One that is a part of
# another action too is a part, and then there are two of one name.
_denied_parts := _denied_objects - {action | some action in actions} if _distinct

_denied_parts := _denied_objects if not _distinct

_denied_objects contains part if {
	some part in _denied
	is_object(part)
}

_distinct if count({[action.method, action.name] | some action in actions}) == count(actions)

_malformed if {
	some rule in data.site.deny
	not _well_formed(rule)
}

_well_formed(rule) if {
	_names_actions(rule.action)
	is_string(rule.code)
	is_string(rule.message)
}

_names_actions(action) if is_string(action)

_names_actions(action) if is_object(action)

_concerns(rule, action) if rule.action == action.name

_concerns(rule, action) if {
	is_object(rule.action)
	object.subset(action, rule.action)
}

# The rules that refuse the first action; for a call it is the only one.
_site_rules contains rule if {
	some rule in data.site.deny
	_well_formed(rule)
	_concerns(rule, actions[0])
}

default _visible := set()

_visible := _permitted - _site_denied if {
	_open
	caller.granted
	count(caller.reasons) == 0
}

_visible := _listed - _site_denied if {
	_open
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

# What shows to no bearer, and what to a bad one.
_listable := live.settings.listable.anonymous if {
	not input.credential.kind in {"token", "jwt"}
	not input.credential.rejected
} else := patterns if {
	patterns := live.settings.listable.rejected
}

default _visible_until := null

_visible_until := _unchanged_until if count(_blocked & {"behind", "stale_data"}) == 0

_visible_reason := _first(((_blocked | caller.reasons) | {"ok"}))

_first(codes) := _order[min({position | some code in codes; position := _position[code]})]

_position[code] := position if some position, code in _order

# As `pdp_client.reasons` does: at most 64 characters of a caller's text.
_quoted(text) := sprintf("'%s'", [text]) if {
	count(text) <= 64
} else := sprintf("'%s…'", [substring(text, 0, 63)])

_message["behind"] := "Policy data has not caught up yet."

_message["stale_data"] := "Policy data is too old to decide on."

_message["lockdown"] := "An operator has stopped all calls."

_message["unavailable"] := "The policy decision point is unavailable."

_message["missing_token"] := "Authentication required. Provide a Bearer token."

_message["issuer_invalid"] := "Invalid token issuer."

_message["per_turn_retired"] := "Per-turn JWTs are no longer accepted; mint a team JWT."

_message["token_deactivated"] := "Token has been deactivated."

_message["token_expired"] := "Token has expired."

_message["user_disabled"] := "User account is disabled."

_message["team_unknown"] := "Team JWT references a team that no longer exists."

_message["team_inactive"] := "Team JWT references an inactive team."

_message["invalid_token"] := "Invalid MCP token."

_message["key_unknown"] := sprintf("Unknown signing key kid=%s.", [_quoted(input.credential.kid)])

_message["key_retired"] := sprintf("Signing key %s has been retired.", [_quoted(input.credential.kid)])

_message["owner_disabled"] := sprintf("Team owner %s is disabled.", [_quoted(caller.user_name)])

_message["tool_not_allowed"] := sprintf("Token does not have permission to call %s.", [_quoted(_told)])

_told := input.action.name if input.action.method == "tools/call"

# As the pattern would be written that grants it.
_told := concat(":", [input.action.method, input.action.name]) if not input.action.method == "tools/call"

_message["site_rule"] := concat(" ", sort({rule.message | some rule in _site_rules}))

_order := [
	"behind", "stale_data", "lockdown",
	"missing_token",
	"token_deactivated", "token_expired", "user_disabled",
	"key_unknown", "key_retired", "issuer_invalid", "per_turn_retired",
	"team_unknown", "team_inactive", "owner_disabled", "invalid_token",
	"tool_not_allowed", "site_rule",
	"unavailable", "ok",
]
