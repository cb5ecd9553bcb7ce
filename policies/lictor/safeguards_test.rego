package lictor_test

import data.dataset
import data.lictor

# An allow needs every positive fact, and no refusal; each has its refusal beside it. Here the refusals are taken
# away, as if one had been forgotten, and the facts alone must hold.

_alice := {"kind": "token", "digest": crypto.sha256("alice")}

_search := {"method": "tools/call", "name": "search"}

_locked := {"live": {"settings": {"lockdown": true}}}

test_with_every_fact_and_no_refusal_it_is_allowed if {
	_unrefused(_alice, _search, {}).allow
}

test_without_refusals_the_facts_alone_must_hold if {
	not _unrefused(_alice, _search, _locked).allow
	not _unrefused(_alice, _search, {"heartbeat": {"synced_ago": 31}}).allow
	not _unrefused(_alice, {"method": "tools/call", "name": "delete"}, {}).allow
	not _unrefused({"kind": "token", "digest": crypto.sha256("run-out")}, _search, {}).allow
}

test_all_preconditions_are_needed if {
	lictor._preconditions_met with data.registry as _registry({})
		with data.site as dataset.site
		with lictor.manifest as dataset.lictor.manifest
		with input as {"credential": _alice}
	every patch in [_locked, {"heartbeat": {"synced_ago": 31}}, {"base": {"00": {"revision": 29}}}] {
		not lictor._preconditions_met with data.registry as _registry(patch)
			with data.site as dataset.site
			with lictor.manifest as dataset.lictor.manifest
			with input as {"credential": _alice}
	}
	not lictor._preconditions_met with data.registry as _registry({})
		with data.site as dataset.site
		with lictor.manifest as dataset.lictor.manifest
		with input as {"credential": _alice, "min_revision": 43}
}

test_rules_that_read_any_record_need_every_shard if {
	site := {"manifest": {"libraries": true}}
	lictor._shards_are_current with lictor.caller.shards as set() with lictor.registry.all_shards_are_current as true
		with data.site as site
	not lictor._shards_are_current with lictor.caller.shards as set() with lictor.registry.all_shards_are_current as false
		with data.site as site
}

test_shadow_mode_watches_what_is_refused_for_the_action_alone if {
	_shadow(_alice, _search, {}, {"tool_not_allowed"}) == {"libraries": ["lib-a", "lib-b"]}
	_shadow(_alice, _search, {}, {"site_rule", "site:closed"}) == {"libraries": ["lib-a", "lib-b"]}
	_shadow(_alice, _search, {}, {"tool_not_allowed", "token_expired"}) == null
	_shadow(_alice, _search, {}, {"lockdown"}) == null
}

test_shadow_mode_needs_every_fact_but_the_grant_of_the_action if {
	_shadow(_alice, _search, _locked, {"tool_not_allowed"}) == null
	_shadow({"kind": "token", "digest": crypto.sha256("switched-off")}, _search, {}, {"tool_not_allowed"}) == null
	_shadow(_alice, null, {}, {"tool_not_allowed"}) == null
}

test_shadow_mode_needs_a_refusal if {
	_shadow(_alice, {"method": "tools/call", "name": "delete"}, {}, set()) == null
}

test_an_answer_in_an_outage_is_never_kept if {
	every patch, min_revision in {{}: 43, {"heartbeat": {"synced_ago": 31}}: 1} {
		decision := lictor.decision with input as _question(_alice, _search, {"min_revision": min_revision})
			with data.registry as _registry(patch)
			with data.site as dataset.site
			with lictor.manifest as dataset.lictor.manifest
		decision.valid_until == null
	}
}

test_an_answer_holds_no_longer_than_its_data if {
	valid_until := _valid_until with time.now_ns as 1000000000000
	valid_until == 1029
}

test_an_outage_is_no_reason_to_leave_another_out if {
	decision := lictor.decision with input as _question(_alice, {"method": "tools/call", "name": "delete"}, {})
		with data.registry as _registry(_locked)
		with data.site as dataset.site
		with lictor.manifest as dataset.lictor.manifest
	decision.reasons == ["lockdown", "tool_not_allowed"]
}

test_without_a_manifest_of_the_site_no_library_is_given if {
	decision := lictor.decision with input as _question(_alice, _search, {})
		with data.registry as _registry({})
		with data.site as {"manifest": object.remove(dataset.site.manifest, {"libraries"})}
		with lictor.manifest as dataset.lictor.manifest
	decision.allow
	decision.libraries == []
}

test_an_allow_that_came_with_data_is_no_decision if {
	decision := lictor.decision with input as _question(_alice, _search, {})
		with data.registry as _registry({})
		with data.site as dataset.site
		with lictor.manifest as dataset.lictor.manifest
		with lictor.registry.intact as false
		with lictor.allow as true
	decision == lictor._of_unknown_data
}

test_every_decision_has_the_same_members if {
	every name, allowed in {"search": true, "delete": false} {
		decision := lictor.decision with input as _question(_alice, {"method": "tools/call", "name": name}, {})
			with data.registry as _registry({})
			with data.site as dataset.site
			with lictor.manifest as dataset.lictor.manifest
		decision.allow == allowed
		object.keys(decision) == object.keys(lictor._of_unknown_data)
		decision.policy == dataset.lictor.manifest.revision
		decision.site == dataset.site.manifest.revision
		is_number(decision.data_age_ms)
	}
}

test_a_refusal_of_an_action_holds_as_long_as_its_data if {
	delete := {"method": "tools/call", "name": "delete"}
	valid_until := _valid_until_of(delete) with time.now_ns as 1000000000000
	valid_until == 1029
}

test_an_answer_from_what_is_not_intact_is_made_of_constants if {
	decision := lictor.decision with input as _question(_alice, _search, {}) with lictor.registry.intact as false
	decision == {
		"allow": false, "reason": "stale_data", "reasons": ["stale_data"],
		"message": "Policy data is too old to decide on.",
		"principal": null, "libraries": [], "epoch": null, "revision": null, "policy": null, "site": null,
		"data_age_ms": null, "valid_until": null, "uses_arguments": true, "shadow": null,
	}
}

test_an_action_comes_before_actions if {
	lictor.actions == [_search] with input as {"action": _search, "actions": [{"name": "delete"}]}
		with data.site as dataset.site
}

_valid_until := _valid_until_of(_search)

_valid_until_of(action) := decision.valid_until if {
	decision := lictor.decision with input as _question(_alice, action, {})
		with data.registry as _registry({})
		with data.site as dataset.site
		with lictor.manifest as dataset.lictor.manifest
}

_unrefused(credential, action, patch) := decision if {
	decision := lictor.decision with input as _question(credential, action, {})
		with data.registry as _registry(patch)
		with data.site as dataset.site
		with lictor.manifest as dataset.lictor.manifest
		with lictor._refusals as set()
}

_shadow(credential, action, patch, refusals) := shadow if {
	shadow := lictor.shadow with input as _question(credential, action, {"context": {"shadow": true}})
		with data.registry as _registry(patch)
		with data.site as dataset.site
		with lictor.manifest as dataset.lictor.manifest
		with lictor._refusals as refusals
}

_question(credential, action, more) := object.union({"credential": credential, "action": action}, more) if {
	action != null
} else := object.union({"credential": credential}, more)
