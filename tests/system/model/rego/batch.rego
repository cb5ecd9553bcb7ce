# METADATA
# description: Many queries in one query, each evaluated as if it had been sent alone, at a clock that the test sets.
package model

decisions[i] := {"allow": answer.allow, "reason": answer.reason, "libraries": answer.libraries} if {
	now := input.now
	some i, query in input.queries
	query.action
	answer := data.lictor.decision with input as query with time.now_ns as now
}

lists[i] := {"indices": answer.indices, "reason": answer.reason} if {
	now := input.now
	some i, query in input.queries
	query.actions
	answer := data.lictor.visible with input as query with time.now_ns as now
}

answers := {"decisions": decisions, "lists": lists}

# What is said of all callers together, and of each of them without any action.
callers := reasons if {
	now := input.now
	reasons := data.lictor.callers.reasons with input as {"credentials": input.credentials} with time.now_ns as now
}

each_caller := [reason |
	now := input.now
	some credential in input.credentials
	reason := data.lictor.visible.reason with input as {"credential": credential, "actions": []} with time.now_ns as now
]

# Until when each answer holds, if nothing but time goes by.
ends[i] := end if {
	now := input.now
	some i, query in input.queries
	query.action
	end := data.lictor.decision.valid_until with input as query with time.now_ns as now
}

ends[i] := end if {
	now := input.now
	some i, query in input.queries
	query.actions
	end := data.lictor.visible.valid_until with input as query with time.now_ns as now
}
