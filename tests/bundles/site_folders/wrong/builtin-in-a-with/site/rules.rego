package site

x if data.lictor.actions with http.send as 7

deny contains {"action": action.name, "code": "c", "message": "m"} if {
	some action in data.lictor.actions
	x
}
