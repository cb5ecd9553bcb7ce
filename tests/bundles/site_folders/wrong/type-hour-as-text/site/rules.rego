package site

deny contains {"action": action.name, "code": "c", "message": "m"} if {
	some action in data.lictor.actions
	time.clock(time.now_ns())[0] > "18"
	action
}
