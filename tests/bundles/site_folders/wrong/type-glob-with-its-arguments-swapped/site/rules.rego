package site

deny contains {"action": action.name, "code": "c", "message": "m"} if {
	some action in data.lictor.actions
	glob.match(action.name, null, "pay_*")
}
