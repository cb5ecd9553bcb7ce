package local_test

import data.local

_policy := {"policy": {"manifest": {"roots": ["lictor", "system/authz", "system/log"]}}}

test_requests_are_answered_by_the_rules_of_the_policy_bundle if {
	local.allow with data.system.authz.allow as true with data.system.bundles as _policy
	not local.allow with data.system.authz.allow as false with data.system.bundles as _policy
}

test_rules_from_another_bundle_answer_nothing if {
	every bundles in [
		{},
		{"live": {"manifest": {"roots": ["lictor", "system/authz"]}}},
		{"policy": {"manifest": {"roots": ["lictor"]}}},
		{"policy": {"manifest": {"roots": ["system/authz"]}}},
		{"policy": {"manifest": {"roots": []}}},
	] {
		not local.allow with data.system.authz.allow as true with data.system.bundles as bundles
	}
}

test_what_is_not_allowed_is_false_and_not_undefined if {
	local.allow == false with data.system.bundles as {}
}
