package site

deny contains {"action": action.name, "code": "c", "message": "m"} if {
	some action in data.lictor.actions
	net.cidr_contains("10.0.0.0/8", "10.0.0.1")
}
