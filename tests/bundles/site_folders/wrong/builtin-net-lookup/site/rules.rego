package site

deny contains {"action": action.name, "code": "c", "message": "m"} if {
	some action in data.lictor.actions
	count(net.lookup_ip_addr("localhost")) > 0
}
