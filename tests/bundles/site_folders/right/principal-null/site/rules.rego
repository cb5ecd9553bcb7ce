package site

deny contains {"action": action.name, "code": "c", "message": "m"} if {
	some action in data.lictor.actions
	data.lictor.principal == null
}

deny contains {"action": action.name, "code": "c", "message": "m"} if {
	some action in data.lictor.actions
	is_null(data.lictor.principal)
}
