package site

limits.closed.names := {"a"}

deny contains {"action": action.name, "code": "c", "message": "m"} if {
	some action in data.lictor.actions
	action.name in limits.closed.names
}
