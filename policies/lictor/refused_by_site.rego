package lictor

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
	object.subset(action, rule.action)
}

# The rules that refuse the first action; for a call it is the only one.
_site_rules contains rule if {
	some rule in data.site.deny
	_well_formed(rule)
	_concerns(rule, actions[0])
}
