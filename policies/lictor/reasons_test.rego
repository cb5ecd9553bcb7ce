package lictor_test

import data.cases
import data.dataset
import data.lictor

# The whole table at once: a tenth of the time that it takes by name (`test_case`), which mutants have to wait for.
test_every_case_has_the_answer_that_it_wants if {
	every case in cases {
		answer := _answer(case)
		answer == object.union(answer, case.want)
	}
}

test_an_outage_has_its_message if {
	lictor._message.behind == "Policy data has not caught up yet."
	lictor._message.stale_data == "Policy data is too old to decide on."
	lictor._message.unavailable == "The policy decision point is unavailable."
}

test_a_name_of_64_characters_is_quoted_whole if {
	name := concat("", [sprintf("%02d", [n]) | some n in numbers.range(1, 32)])
	count(name) == 64
	lictor._quoted(name) == sprintf("'%s'", [name])
	lictor._quoted(sprintf("%sx", [name])) == sprintf("'%s…'", [substring(name, 0, 63)])
}

test_messages_of_several_site_rules_stand_side_by_side if {
	deny := {
		{"action": "search", "code": "b", "message": "Second."},
		{"action": "search", "code": "a", "message": "First."},
	}
	decision := lictor.decision with input as {
		"credential": {"kind": "token", "digest": crypto.sha256("alice")},
		"action": {"method": "tools/call", "name": "search"},
	}
		with data.registry as _registry({})
		with data.site as object.union(dataset.site, {"deny": deny})
		with lictor.manifest as dataset.lictor.manifest
	decision.message == "First. Second."
}
