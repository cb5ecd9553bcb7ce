package lictor

import data.lictor.caller

# Whether a rule of the site denies the one action of a call. `_site_denied` says the same of each action of a list.
_call_denied if {
	some rule in data.site.deny
	not _well_formed(rule)
}

_call_denied if some rule in _site_rules

_site_denied contains i if {
	count(_denied) > 0
	some i, action in actions
	_is_denied(action)
}

_site_denied contains i if {
	some part in _denied_parts
	members := _members_of(part)
	some i, action in actions
	_has_all(action, members)
}

# A rule without an action, code and message was meant to deny something: it denies everything.
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

# Whole actions, as rules copy them from `actions`, are looked up. The others are few. An action that is also a
# part of another one counts as a part, and then two actions have the same name.
_denied_parts := _denied_objects - {action | some action in actions} if {
	count(_denied_objects) > 0
	_distinct
}

_denied_parts := _denied_objects if {
	count(_denied_objects) > 0
	not _distinct
}

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
	_has_all(action, _members_of(rule.action))
}

# The rules that deny the one action of a call.
_site_rules contains rule if {
	some rule in data.site.deny
	_well_formed(rule)
	_concerns(rule, actions[0])
}

# The values that an action must have to match a part, by path.
_members_of(part) := {path: value |
	walk(part, [path, value])
	_is_member(value)
	not _within_a_collection(part, path)
}

_is_member(value) if not is_object(value)

_is_member(value) if value == {}

_within_a_collection(part, path) if {
	some i, _ in path
	i > 0
	_is_collection(object.get(part, array.slice(path, 0, i), null))
}

_is_collection(value) if is_array(value)

_is_collection(value) if is_set(value)

# A member that the action lacks is a set of sets, which neither JSON nor a part has.
_has_all(action, members) if {
	every path, wanted in members {
		_has(object.get(action, path, {set()}), wanted)
	}
}

_has(actual, wanted) if actual == wanted

_has(actual, wanted) if {
	wanted == {}
	is_object(actual)
}

# A list or a set in a part requires all of its elements, in any order.
_has(actual, wanted) if {
	_is_collection(wanted)
	is_array(actual)
	every one in wanted {
		one in actual
	}
}

# An element of `hidden` that is not text was meant to hide something: it hides everything.
_unhidden := set() if {
	some uid in data.site.hidden
	not is_string(uid)
} else := caller.libraries - {uid | some uid in data.site.hidden}
