package site

violation contains {"action": action.name, "code": "c", "message": "m"} if {
	some action in data.lictor.actions
	action.name == "x"
}
