package site

deny contains {"action": action.name, "code": "c", "message": "m"} if {
	some action in data.lictor.actions
	every tag in action.tags {
		tag in {"read", "open"}
	}
	some i
	data.lictor.actions[i].name == action.name
}
