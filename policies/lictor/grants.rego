package lictor

import data.lictor.caller

# Whether the one action of a call is granted. `_permitted` says the same of each action of a list, with less work for
# each of 500.
_call_permitted if {
	"*" in caller.tools
	input.action.method in _methods
}

_call_permitted if {
	input.action.method == "tools/call"
	some pattern in caller.tools
	glob.match(pattern, null, input.action.name)
	not _qualified(pattern)
}

_call_permitted if _may(input.action)

# `*` grants everything, of any kind; this avoids checking 500 names.
_permitted contains i if {
	_everything
	some i, action in actions
	action.method in _methods
}

_permitted contains i if {
	not _everything

	# regal ignore:pointless-reassignment
	named := _named_tools
	count(named) > 0
	some i, name in _called

	# A look-up in a local set takes two thirds of the time of `in`, and half of that of a rule.
	named[name]
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

# A comprehension is evaluated once: a rule would be evaluated for each use, and take 2.5 times as long.
# regal ignore:prefer-set-or-object-rule
_called := {i: action.name | some i, action in actions; action.method == "tools/call"}

_may(action) if {
	action.method in _qualified_methods
	_qualifies(caller.tools, action)
}

# Methods about the caller's own session need no grant; every other condition applies to them too.
_may(action) if action.method == "logging/setLevel"

_methods := _qualified_methods | {"tools/call", "logging/setLevel"}

# Methods whose grants begin with the method's name, as in `prompts/get:*`. Other methods are never granted.
_qualified_methods := {
	"completion/complete", "prompts/get", "resources/read", "resources/subscribe",
	"subscriptions/listen",
}

_everything if "*" in caller.tools

_tool_patterns contains pattern if {
	some pattern in caller.tools
	not _qualified(pattern)
}

# A grant without pattern characters is looked up instead of matched with each of 500 names.
_named_tools contains pattern if {
	some pattern in _tool_patterns
	regex.match(`^[0-9A-Za-z_./:-]+$`, pattern)
}

# A pattern for one method does not apply to tools.
_qualified(pattern) if {
	parts := split(pattern, ":")
	count(parts) > 1
	parts[0] in _qualified_methods
}

# Patterns without separators, so that `*` matches everything.
_calls(patterns, action) if {
	some pattern in patterns
	glob.match(pattern, null, action.name)
}

# The method is literal text; the part after it is a pattern.
_qualifies(patterns, action) if {
	prefix := concat("", [action.method, ":"])
	some pattern in patterns
	startswith(pattern, prefix)
	glob.match(substring(pattern, count(prefix), -1), null, action.name)
}
