package lictor_test

import data.dataset
import data.lictor

test_a_rule_names_one_of_two_actions_whole if {
	tool := {"method": "tools/call", "name": "edit", "tags": ["write"]}
	prompt := {"method": "prompts/get", "name": "edit", "tags": []}
	_left([tool, prompt], tool) == [1]
	_left([tool, prompt], prompt) == [0]
}

test_a_malformed_rule_refuses_everything_without_a_code_of_its_own if {
	every rule in [
		{"action": "search", "code": 7, "message": "m"},
		{"action": "search", "code": "c", "message": 7},
		{"action": 7, "code": "c", "message": "m"},
		{"action": {"name": "search"}, "code": "c"},
	] {
		decision := lictor.decision with input as {
			"credential": {"kind": "token", "digest": crypto.sha256("everything")},
			"action": {"method": "tools/call", "name": "search"},
		}
			with data.registry as _registry({})
			with data.site as object.union(dataset.site, {"deny": {rule}})
			with lictor.manifest as dataset.lictor.manifest
		decision.reasons == ["site_rule"]
	}
}

test_a_malformed_rule_has_no_part_in_what_is_refused_by_name if {
	denied := lictor._denied with data.site as {"deny": {
		{"action": "search", "code": "c"},
		{"action": "edit", "code": "c", "message": "m"},
	}}
	denied == {"edit"}
}

test_only_rules_that_concern_the_action_give_a_reason if {
	deny := {
		{"action": "search", "code": "named", "message": "Named."},
		{"action": {"method": "tools/call"}, "code": "part", "message": "Part."},
		{"action": "delete", "code": "other_name", "message": "Other."},
		{"action": {"method": "prompts/get"}, "code": "other_part", "message": "Other."},
	}
	decision := lictor.decision with input as {
		"credential": {"kind": "token", "digest": crypto.sha256("everything")},
		"action": {"method": "tools/call", "name": "search"},
	}
		with data.registry as _registry({})
		with data.site as object.union(dataset.site, {"deny": deny})
		with lictor.manifest as dataset.lictor.manifest
	decision.reasons == ["site:named", "site:part", "site_rule"]
	decision.message == "Named. Part."
}

test_an_action_has_no_member_that_it_lacks if {
	not lictor._has_all({"name": "edit"}, {["tags"]: {"mutant"}})
	not lictor._has_all({"annotations": {"a": 1}}, {["annotations"]: "a"})
	lictor._has_all({"annotations": {"a": 1}}, {["annotations"]: {}})
}
