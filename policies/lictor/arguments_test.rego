package lictor_test

import data.lictor

_uses_arguments(manifest, action) := used if {
	used := lictor.uses_arguments with input as {"action": action} with data.site.manifest as manifest
}

_concern(conditions) := object.union({"names": null, "methods": null, "tags": []}, conditions)

test_arguments_are_used_only_where_a_rule_can_concern_the_action if {
	every case in [
		[{"names": ["pay", "send"]}, {"name": "pay", "method": "tools/call"}, true],
		[{"names": ["pay", "send"]}, {"name": "send"}, true],
		[{"names": ["pay", "send"]}, {"name": "pays"}, false],
		[{"names": ["pay", "send"]}, {}, true],
		[{"methods": ["tools/call"]}, {"name": "x", "method": "tools/call"}, true],
		[{"methods": ["tools/call"]}, {"name": "x", "method": "prompts/get"}, false],
		[{"tags": ["a", "b"]}, {"tags": ["b", "c", "a"]}, true],
		[{"tags": ["a", "b"]}, {"tags": ["a"]}, false],
		[{"tags": ["a", "b"]}, {"name": "x"}, false],
		[{"tags": ["mutant"]}, {"name": "x"}, false],
		[{"names": ["pay"], "tags": ["a"]}, {"name": "pay", "tags": ["a"]}, true],
		[{"names": ["pay"], "tags": ["a"]}, {"name": "pay", "tags": []}, false],
		[{"names": ["pay"], "tags": ["a"]}, {"name": "x", "tags": ["a"]}, false],
	] {
		_uses_arguments({"arguments": true, "concerns": [_concern(case[0])]}, case[1]) == case[2]
	}
}

test_arguments_are_used_where_any_of_several_rules_can_concern_the_action if {
	concerns := [{"names": ["pay"], "methods": null, "tags": []}, {"names": ["send"], "methods": null, "tags": []}]
	manifest := {"arguments": true, "concerns": concerns}
	_uses_arguments(manifest, {"name": "pay"})
	_uses_arguments(manifest, {"name": "send"})
	_uses_arguments(manifest, {"name": "fetch"}) == false
}

test_arguments_are_used_where_nothing_proves_that_no_rule_concerns_the_action if {
	every concerns in [null, {}, "", [{}], [{"names": null, "methods": null, "tags": []}], [{"names": "pay"}]] {
		_uses_arguments({"arguments": true, "concerns": concerns}, {"name": "fetch", "tags": ["a"]})
	}
	_uses_arguments({"arguments": true}, {"name": "fetch"})
	_uses_arguments({}, {"name": "fetch"})
	_uses_arguments({"arguments": false, "concerns": [{}]}, {"name": "fetch"}) == false
	lictor.uses_arguments with input as {} with data.site.manifest as {
		"arguments": true, "concerns": [{"names": ["pay"], "methods": null, "tags": []}],
	}
}

test_actions_lack_arguments_that_no_rule_about_them_reads if {
	manifest := {"arguments": true, "concerns": [_concern({"names": ["pay"]})]}
	_shown("pay", manifest) == [{"name": "pay", "arguments": {"q": 1}}]
	_shown("fetch", manifest) == [{"name": "fetch"}]
}

_shown(name, manifest) := actions if {
	actions := lictor.actions with input as {"action": {"name": name, "arguments": {"q": 1}}}
		with data.site.manifest as manifest
}
