package site_test

import data.site

# 2026-11-23 is a Monday.
_at(text) := time.parse_rfc3339_ns(text)

_write := [{"method": "tools/call", "name": "put_note", "tags": ["write"]}]

test_writing_is_refused_outside_business_hours if {
	every moment in ["2026-11-23T05:59:59Z", "2026-11-23T20:00:00Z", "2026-11-22T12:00:00Z", "2026-11-28T12:00:00Z"] {
		denied := site.deny with data.lictor.actions as _write with time.now_ns as _at(moment)
		{rule.action | some rule in denied} == {"put_note"}
	}
}

test_writing_is_not_refused_in_business_hours if {
	every moment in ["2026-11-23T06:00:00Z", "2026-11-27T19:59:59Z"] {
		denied := site.deny with data.lictor.actions as _write with time.now_ns as _at(moment)
		count(denied) == 0
	}
}

test_a_refusal_says_when_writing_tools_run if {
	denied := site.deny with data.lictor.actions as _write with time.now_ns as _at("2026-11-22T12:00:00Z")
	denied == {{
		"action": "put_note",
		"code": "business_hours",
		"message": "Writing tools run on weekdays, 6 to 20 o'clock UTC.",
	}}
}

test_reading_is_never_refused if {
	read := [{"method": "tools/call", "name": "search", "tags": ["read"]}, {"method": "tools/call", "name": "bare"}]
	denied := site.deny with data.lictor.actions as read with time.now_ns as _at("2026-11-22T12:00:00Z")
	count(denied) == 0
}

test_sealed_libraries_are_hidden_from_other_teams if {
	_hidden({"type": "team", "name": "Docs"}) == {"lib-sealed"}
	_hidden({"type": "team", "name": "Archive"}) == set()
	_hidden({"type": "token", "name": "Ada"}) == set()
}

_hidden(principal) := hidden if {
	hidden := site.hidden with data.lictor.principal as principal
		with data.lictor.granted_libraries as {"lib-open", "lib-sealed", "lib-untagged"}
		with data.registry as {
			"live": {"since": {"00": 1}},
			"base": {"00": {"libraries": {
				"lib-open": {"name": "Open", "tags": ["public"]},
				"lib-sealed": {"name": "Sealed", "tags": ["sealed"]},
			}}},
		}
}
