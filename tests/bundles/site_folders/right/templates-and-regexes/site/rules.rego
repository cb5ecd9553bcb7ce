package site

deny contains {"action": action.name, "code": "c", "message": "m"} if {
	some action in data.lictor.actions
	regex.match(`^pay_`, action.name)
	contains(action.name, "_")
	startswith(action.name, "pay")
	glob.match("pay_*", null, action.name)
}
