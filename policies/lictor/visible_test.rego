package lictor_test

import data.dataset
import data.lictor

test_visible_needs_a_grant_and_no_reason_against_it if {
	_seen(false, set()) == []
	_seen(true, {"token_expired"}) == []
	_seen(true, set()) == [0, 1]
}

test_visible_leaves_out_what_the_site_refuses_to_anyone if {
	deny := {{"action": "list_libraries", "code": "closed", "message": "Closed."}}
	_visible({"kind": "anonymous"}, {}, {"deny": deny}) == []
}

test_visible_to_a_refused_jwt_is_what_is_listable_for_one if {
	unknown := {"kind": "jwt", "kid": "none", "claims": {"iss": "mnemosyne", "typ": "team", "sub": "team:x"}}
	_visible(unknown, {}, {}) == []
	_visible(unknown, {"live": {"settings": {"listable": {"rejected": ["get_*"]}}}}, {}) == [1]
}

test_a_pattern_for_a_method_lists_no_tool_of_that_name if {
	asked := {{"method": "tools/call", "name": "prompts/get:search"}}
	_listed_of(["prompts/get:sea*"], asked) == []
}

test_a_pattern_for_tools_by_their_method_lists_nothing if {
	_listed(["tools/call:sea*"]) == set()
}

test_a_list_is_kept_in_a_lockdown_and_never_in_an_outage if {
	alice := {"kind": "token", "digest": crypto.sha256("alice")}
	is_number(_list(alice, {"live": {"settings": {"lockdown": true}}}, {}).valid_until)
	_list(alice, {"heartbeat": {"synced_ago": 31}}, {}).valid_until == null
	visible := lictor.visible with input as {"credential": alice, "actions": [], "min_revision": 43}
		with data.registry as _registry({})
		with data.site as dataset.site
		with lictor.manifest as dataset.lictor.manifest
	visible.reason == "behind"
	visible.valid_until == null
}

_seen(granted, reasons) := visible.indices if {
	visible := lictor.visible with input as {
		"credential": {"kind": "token", "digest": crypto.sha256("alice")},
		"actions": _tools(["search", "get_document", "list_libraries"]),
	}
		with data.registry as _registry({})
		with data.site as dataset.site
		with lictor.manifest as dataset.lictor.manifest
		with lictor.caller.granted as granted
		with lictor.caller.reasons as reasons
}

_listed_of(patterns, asked) := visible.indices if {
	visible := lictor.visible with input as {
		"credential": {"kind": "anonymous"},
		"actions": [action | some action in asked],
	}
		with data.registry as _registry({"live": {"settings": {"listable": {"anonymous": patterns}}}})
		with data.site as dataset.site
		with lictor.manifest as dataset.lictor.manifest
}
