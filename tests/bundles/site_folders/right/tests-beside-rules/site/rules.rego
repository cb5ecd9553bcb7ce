package site

deny contains {"action": action.name, "code": "c", "message": "m"} if {
	some action in data.lictor.actions
	action.name == "x"
}

test_x if {
	deny == set() with data.lictor.actions as [{"name": "y"}]
}
