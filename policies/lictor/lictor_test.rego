package lictor_test

import data.cases
import data.dataset
import data.lictor

# A whole second, as OPA calculates with fractions in decimal text.
_now := floor(time.now_ns() / 1000000000)

# The table of cases, shared with pytest: tests/cases/cases.yaml.
test_case[case.name] if {
	some case in cases
	answer := _answer(case)
	answer == object.union(answer, case.want)
}

# No case may go missing because it could not be evaluated.
test_every_case_is_answered if {
	answered := {case.name | some case in cases; _answer(case)}
	count(answered) == count(cases)
}

test_a_message_quotes_at_most_64_characters if {
	name := concat("", [char | some _ in numbers.range(1, 65); char := "é"])
	answer := _answer({"credential": {"bearer": "no-tools"}, "action": {"name": name}})
	answer.message == sprintf("Token does not have permission to call '%s…'.", [substring(name, 0, 63)])
}

test_visible_is_what_a_call_would_be_allowed if {
	visible := lictor.visible with input as {
		"credential": {"kind": "token", "digest": crypto.sha256("alice")},
		"actions": _tools(["search", "delete", "get_document", "get_health", "search"]),
	}
		with data.registry as _registry({})
		with data.site as dataset.site
		with lictor.manifest as dataset.lictor.manifest
	object.remove(visible, {"valid_until"}) == {
		"indices": [0, 2, 3, 4], "reason": "ok", "epoch": 1, "revision": 42,
		"policy": dataset.lictor.manifest.revision, "site": dataset.site.manifest.revision,
	}
}

test_visible_leaves_out_what_the_site_refuses if {
	deny := {{"action": "search", "code": "closed", "message": "Closed."}}
	_visible({"kind": "token", "digest": crypto.sha256("alice")}, {}, {"deny": deny}) == [1]
}

test_visible_to_anonymous_callers_is_what_is_listable if {
	_visible({"kind": "anonymous"}, {}, {}) == [2]
	_reason({"kind": "anonymous"}, {}, {}) == "missing_token"
}

test_visible_to_a_refused_bearer_is_what_is_listable_for_one if {
	_visible({"kind": "anonymous", "rejected": true}, {}, {}) == []
	_visible({"kind": "token", "digest": crypto.sha256("run-out")}, {}, {}) == []
	listable := {"live": {"settings": {"listable": {"rejected": ["get_*"]}}}}
	_visible({"kind": "anonymous", "rejected": true}, listable, {}) == [1]
	_visible({"kind": "token", "digest": crypto.sha256("run-out")}, listable, {}) == [1]
	_reason({"kind": "token", "digest": crypto.sha256("run-out")}, listable, {}) == "token_expired"
}

test_visible_is_empty_in_lockdown_and_outage if {
	alice := {"kind": "token", "digest": crypto.sha256("alice")}
	every credential in [alice, {"kind": "anonymous"}] {
		_visible(credential, {"live": {"settings": {"lockdown": true}}}, {}) == []
		_visible(credential, {"heartbeat": {"synced_ago": 31}}, {}) == []
	}
	_reason(alice, {"live": {"settings": {"lockdown": true}}}, {}) == "lockdown"
	_reason(alice, {"heartbeat": {"synced_ago": 31}}, {}) == "stale_data"
	_list(alice, {"heartbeat": {"synced_ago": 31}}, {}).valid_until == null
}

test_visible_of_an_empty_list_is_empty if {
	visible := lictor.visible with input as {"credential": {"kind": "anonymous"}, "actions": []}
		with data.registry as _registry({})
	visible.indices == []
}

test_a_decision_without_an_action_is_refused if {
	decision := lictor.decision with input as {"credential": {"kind": "token", "digest": crypto.sha256("everything")}}
		with data.registry as _registry({})
		with data.site as dataset.site
		with lictor.manifest as dataset.lictor.manifest
	decision.allow == false
	decision.reasons == ["tool_not_allowed"]
	decision.message == ""
}

test_a_list_of_actions_is_no_action if {
	input_ := {
		"credential": {"kind": "token", "digest": crypto.sha256("everything")},
		"actions": _tools(["search"]),
	}
	decision := lictor.decision with input as input_
		with data.registry as _registry({})
		with data.site as dataset.site
		with lictor.manifest as dataset.lictor.manifest
	decision.allow == false
}

test_site_rules_choose_from_the_granted_libraries if {
	granted := lictor.granted_libraries with input as {"credential": {"kind": "token", "digest": crypto.sha256("alice")}}
		with data.registry as _registry({})
	granted == {"lib-a", "lib-b"}
}

# Should a positive fact ever lack its refusal, the answer is an outage and not a silent nothing.
test_a_refusal_without_a_reason_is_unavailable if {
	decision := lictor.decision with input as {
		"credential": {"kind": "token", "digest": crypto.sha256("switched-off")},
		"action": {"method": "tools/call", "name": "search"},
	}
		with data.registry as _registry({})
		with data.site as dataset.site
		with lictor.manifest as dataset.lictor.manifest
		with lictor.caller.reasons as set()
	decision.allow == false
	decision.reasons == ["unavailable"]
	decision.valid_until == null
}

test_arguments_are_hidden_unless_a_rule_names_them if {
	action := {"method": "tools/call", "name": "search", "arguments": {"q": "x"}}
	without := lictor.actions with input as {"action": action} with data.site.manifest.arguments as false
	without == [{"method": "tools/call", "name": "search"}]
	with_ := lictor.actions with input as {"action": action} with data.site.manifest.arguments as true
	with_ == [action]
	unknown := lictor.actions with input as {"action": action} with data.site as {}
	unknown == [action]
}

test_an_answer_holds_until_the_earliest_moment if {
	expiry := _now + 5
	digest := crypto.sha256("alice")
	short := {"base": {"00": {"tokens": {digest: {"expires_at": expiry}}}}}
	decision := lictor.decision with input as {
		"credential": {"kind": "token", "digest": digest},
		"action": {"method": "tools/call", "name": "search"},
	}
		with data.registry as _registry(short)
		with data.site as dataset.site
		with lictor.manifest as dataset.lictor.manifest
	decision.allow
	decision.valid_until == expiry
	_list({"kind": "token", "digest": digest}, short, {}).valid_until == expiry
	_list({"kind": "token", "digest": digest}, short, {"manifest": {"clock": true}}).valid_until == null
}

test_an_answer_names_the_rules_that_made_it if {
	decision := lictor.decision with input as {"credential": {"kind": "anonymous"}}
		with data.registry as _registry({})
		with data.site as {"manifest": {"revision": "site-7"}}
		with lictor.manifest as {"revision": "rules-3"}
	[decision.policy, decision.site] == ["rules-3", "site-7"]
	unnamed := lictor.decision with input as {"credential": {"kind": "anonymous"}}
		with data.registry as _registry({})
		with data.site as {}
		with lictor.manifest as {}
	[unnamed.policy, unnamed.site] == [null, null]
}

test_a_site_rule_that_reads_records_needs_every_shard if {
	lagging := {"live": {"since": {"00": 30, "01": 30}}, "base": {"01": {"epoch": 1, "revision": 29}}}
	site := object.union(dataset.site, {"manifest": {"libraries": true}})
	digest := concat("", ["00", substring(crypto.sha256("alice"), 2, -1)])
	not lictor._tags_are_current with data.registry as _registry(lagging) with data.site as site
	lictor._tags_are_current with data.registry as _registry(lagging) with data.site as dataset.site
	lictor._tags_are_current with data.registry as _registry({}) with data.site as site
	count(digest) == 64
}

test_a_pattern_for_tools_grants_nothing_but_tools if {
	wide := ["search", "*search", "**", "s*", "?*", "{search,*}", "resources/*", "[a-z]*", "*:*"]
	_permitted(wide, _named("search")) == {"tools/call"}
	_permitted(["tools/call:search"], _named("search")) == set()
}

test_a_qualified_pattern_grants_its_method_alone if {
	every method in _methods {
		_permitted([concat(":", [method, "sea*"])], _named("search")) == {method}
		_permitted([concat(":", [method, "other"])], _named("search")) == set()
	}
}

test_a_tool_that_is_named_like_a_grant_is_not_granted_by_it if {
	_permitted(["prompts/get:*"], _named("prompts/get:ask")) == {"prompts/get"}
	_permitted(["prompts/get:ask"], _named("prompts/get:ask")) == set()
}

test_everything_is_every_method_that_is_known if {
	unknown := {{"method": "tasks/get", "name": "x"}, {"method": "x/y", "name": "x"}}
	_permitted(["*"], _named("search") | unknown) == _methods | {"tools/call"}
}

test_nothing_is_granted_by_no_pattern if {
	_permitted([], _named("search")) == set()
	_permitted([], {{"method": "logging/setLevel", "name": "debug"}}) == {"logging/setLevel"}
}

test_what_is_listable_to_anonymous_callers_is_tools_unless_it_says_otherwise if {
	_listed(["*"]) == {"tools/call"}
	_listed(["*", "prompts/get:sea*"]) == {"tools/call", "prompts/get"}
	_listed(["resources/read:other"]) == set()
}

test_a_rule_may_name_a_whole_action if {
	old := {"method": "tools/call", "name": "edit", "tags": [], "version": "1"}
	new := {"method": "tools/call", "name": "edit", "tags": [], "version": "2"}
	_left([old, new], old) == [1]
	_left([old, new], "edit") == []
}

test_a_rule_may_name_a_part_of_actions if {
	tool := {"method": "tools/call", "name": "edit", "tags": ["write"]}
	prompt := {"method": "prompts/get", "name": "edit", "tags": []}
	_left([tool, prompt], {"method": "tools/call", "name": "edit"}) == [1]
	_left([tool, prompt], {"method": "prompts/get"}) == [0]
	_left([tool, prompt], {"tags": ["write"]}) == [1]
	_left([tool, prompt], {}) == []
}

_tagged := {
	"method": "tools/call", "name": "pay", "tags": ["eu", "finance", "write"],
	"annotations": {"readOnlyHint": false}, "arguments": {"ids": ["a", "b"], "to": {"bank": "x", "iban": "y"}},
}

test_a_list_or_a_set_in_a_part_means_all_of_these_in_any_order if {
	every tags in [[], ["write"], ["finance", "write"], ["write", "eu"], {"write", "eu"}, {"finance"}, set()] {
		_left([_tagged], {"tags": tags}) == []
	}
	every tags in [["writes"], ["write", "us"], {"us"}, "write", null, {}] {
		_left([_tagged], {"tags": tags}) == [0]
	}
}

test_parts_reach_into_objects if {
	every part in [
		{"annotations": {"readOnlyHint": false}}, {"annotations": {}}, {"arguments": {"ids": {"b", "a"}}},
		{"arguments": {"to": {"iban": "y"}}}, {"name": "pay", "arguments": {"to": {}}},
	] {
		_refuses(part)
	}
	every part in [
		{"annotations": {"readOnlyHint": true}}, {"annotations": {"title": {}}}, {"arguments": {"ids": ["c"]}},
		{"arguments": {"to": {"iban": "z"}}}, {"name": "pays", "tags": ["write"]}, {"version": null},
		{"uri": []}, {"uri": set()}, {"uri": {}},
	] {
		not _refuses(part)
	}
}

_refuses(part) if {
	decision := lictor.decision with input as {
		"credential": {"kind": "token", "digest": crypto.sha256("everything")},
		"action": _tagged,
	}
		with data.registry as _registry({})
		with data.site as object.union(dataset.site, {
			"deny": {{"action": part, "code": "closed", "message": "Closed."}},
			"manifest": object.union(dataset.site.manifest, {"arguments": true}),
		})
		with lictor.manifest as dataset.lictor.manifest
	decision.reasons == ["site:closed", "site_rule"]
}

test_hidden_elements_that_are_no_text_hide_everything if {
	every hidden in [{7}, {null}, {{"uid": "lib-a"}}, {"lib-z", {"name": "x"}}, [["lib-a"]]] {
		decision := _hiding(hidden)
		decision.allow
		decision.libraries == []
	}
	_hiding({"lib-a"}).libraries == ["lib-b"]
	_hiding(set()).libraries == ["lib-a", "lib-b"]
}

_hiding(hidden) := decision if {
	decision := lictor.decision with input as {
		"credential": {"kind": "token", "digest": crypto.sha256("alice")},
		"action": {"method": "tools/call", "name": "search"},
	}
		with data.registry as _registry({})
		with data.site as object.union(dataset.site, {"hidden": hidden})
		with lictor.manifest as dataset.lictor.manifest
}

test_a_part_that_is_one_action_of_a_list_is_a_part_of_the_others_too if {
	old := {"method": "tools/call", "name": "edit"}
	tagged := {"method": "tools/call", "name": "edit", "tags": ["write"]}
	_left([old, tagged], old) == []
	_left([tagged, old], tagged) == [1]
}

test_a_refusal_by_a_part_of_an_action_has_its_code_and_message if {
	deny := {{"action": {"method": "tools/call"}, "code": "closed", "message": "Closed."}}
	decision := lictor.decision with input as {
		"credential": {"kind": "token", "digest": crypto.sha256("everything")},
		"action": {"method": "tools/call", "name": "search"},
	}
		with data.registry as _registry({})
		with data.site as object.union(dataset.site, {"deny": deny})
		with lictor.manifest as dataset.lictor.manifest
	decision.reasons == ["site:closed", "site_rule"]
	decision.message == "Closed."
}

test_a_rule_without_an_action_refuses_everything if {
	_left([{"method": "tools/call", "name": "edit"}], null) == []
}

test_in_shadow_mode_a_refusal_of_the_action_keeps_the_callers_own_libraries if {
	decision := _watched("no-tools", {})
	[decision.allow, decision.libraries, decision.reasons] == [false, [], ["tool_not_allowed"]]
	decision.shadow == {"libraries": ["lib-a"]}
	closed := {{"action": "search", "code": "closed", "message": "Closed."}, {}}
	refused := _watched("no-tools", {"deny": closed})
	refused.reasons == ["site:closed", "site_rule", "tool_not_allowed"]
	refused.shadow == {"libraries": ["lib-a"]}
}

test_in_shadow_mode_the_site_still_hides_libraries if {
	decision := _watched("no-tools", {"hidden": {"lib-a"}})
	decision.shadow == {"libraries": []}
}

test_shadow_mode_changes_nothing_that_is_allowed if {
	_watched("alice", {}).allow
	_watched("alice", {}).shadow == null
}

# In each case of the table: who is refused for who they are, in a lockdown or in an outage, is so in any mode.
test_shadow_mode_lets_nothing_else_through[case.name] if {
	some case in cases
	answer := _answer(object.union(case, {"context": {"shadow": true}}))
	open := {reason | some reason in answer.reasons; not startswith(reason, "site:")} - {"tool_not_allowed", "site_rule"}
	_lets_through(answer) == _is_empty(open)
}

test_nothing_is_let_through_without_shadow_mode if {
	every case in cases {
		_answer(case).shadow == null
		_answer(object.union(case, {"context": {"shadow": "true"}})).shadow == null
	}
}

default _lets_through(_) := false

_lets_through(answer) if answer.shadow != null

default _is_empty(_) := false

_is_empty(set_) if count(set_) == 0

_watched(bearer, site) := decision if {
	decision := lictor.decision with input as {
		"credential": {"kind": "token", "digest": crypto.sha256(bearer)},
		"action": {"method": "tools/call", "name": "search"},
		"context": {"shadow": true},
	}
		with data.registry as _registry({})
		with data.site as object.union(dataset.site, site)
		with lictor.manifest as dataset.lictor.manifest
}

_methods := {
	"completion/complete", "prompts/get", "resources/read", "resources/subscribe",
	"subscriptions/listen",
}

_named(name) := {{"method": method, "name": name} | some method in (_methods | {"tools/call"})}

_permitted(tools, asked) := {list[i].method | some i in permitted} if {
	list := [action | some action in asked]
	permitted := lictor._permitted with input as {"credential": {"kind": "token"}, "actions": list}
		with lictor.caller.tools as tools
}

_listed(patterns) := {list[i].method | some i in visible.indices} if {
	list := [action | some action in _named("search")]
	visible := lictor.visible with input as {"credential": {"kind": "anonymous"}, "actions": list}
		with data.registry as _registry({"live": {"settings": {"listable": {"anonymous": patterns}}}})
		with data.site as dataset.site
		with lictor.manifest as dataset.lictor.manifest
}

_left(list, refused) := visible.indices if {
	visible := lictor.visible with input as {
		"credential": {"kind": "token", "digest": crypto.sha256("everything")},
		"actions": list,
	}
		with data.registry as _registry({})
		with data.site as object.union(dataset.site, {"deny": {{"action": refused, "code": "c", "message": "m"}}})
		with lictor.manifest as dataset.lictor.manifest
}

_answer(case) := answer if {
	laid := object.union(dataset, object.get(case, "dataset", {}))
	left := json.remove(laid, object.get(case, "without", []))
	optional := {key: value | some key, value in case; key in {"context", "min_epoch", "min_revision"}}
	question := object.union(optional, {"credential": _credential(case), "action": _action(case.action)})
	answer := lictor.decision with input as question
		with data.registry as _dated(object.get(left, "registry", {}))
		with data.site as object.get(left, "site", {})
		with lictor.manifest as left.lictor.manifest
}

_credential(case) := case.query_credential

_credential(case) := {"kind": "token", "digest": crypto.sha256(case.credential.bearer)}

_credential(case) := {"kind": "jwt", "kid": case.credential.kid, "claims": case.credential.claims}

_credential(case) := {"kind": "anonymous"} if {
	case.credential == {}
	not case.query_credential
}

_action(action) := object.union({"method": "tools/call"}, action)

_tools(names) := [_action({"name": name}) | some name in names]

_registry(patch) := _dated(object.union(dataset.registry, patch))

_dated(registry) := json.patch(registry, moments) if {
	moments := [{"op": "add", "path": concat("/", ["", "heartbeat", field]), "value": time.now_ns() - (ago * 1000000000)} |
		some name, ago in registry.heartbeat
		endswith(name, "_ago")
		is_number(ago)
		field := replace(name, "_ago", "_at_ns")
	]
}

_visible(credential, patch, site) := _list(credential, patch, site).indices

_reason(credential, patch, site) := _list(credential, patch, site).reason

_list(credential, patch, site) := visible if {
	visible := lictor.visible with input as {
		"credential": credential,
		"actions": _tools(["search", "get_document", "list_libraries"]),
	}
		with data.registry as _registry(patch)
		with data.site as object.union(dataset.site, site)
		with lictor.manifest as dataset.lictor.manifest
}

test_nothing_is_answered_while_opa_holds_what_it_must_not if {
	input_ := {
		"credential": {"kind": "token", "digest": crypto.sha256("everything")},
		"action": {"method": "tools/call", "name": "search"},
		"actions": _tools(["search"]),
	}
	decision := lictor.decision with input as input_ with lictor.registry.intact as false
		with data.registry as _registry({})
		with data.site as dataset.site
		with lictor.manifest as dataset.lictor.manifest
	visible := lictor.visible with input as input_ with lictor.registry.intact as false
		with data.registry as _registry({})
		with data.site as dataset.site
		with lictor.manifest as dataset.lictor.manifest
	allow := lictor.allow with input as input_ with lictor.registry.intact as false
		with data.registry as _registry({})
		with data.site as dataset.site
		with lictor.manifest as dataset.lictor.manifest
	stale := lictor.decision with input as input_ with data.registry as {} with data.site as {} with lictor.manifest as {}
	object.keys(decision) == object.keys(stale)
	decision.reasons == ["stale_data"]
	decision.message == stale.message
	decision == object.union(decision, {"allow": false, "libraries": [], "principal": null, "valid_until": null})
	visible == {
		"indices": [], "reason": "stale_data", "epoch": null, "revision": null,
		"policy": null, "site": null, "valid_until": null,
	}
	not allow
}
