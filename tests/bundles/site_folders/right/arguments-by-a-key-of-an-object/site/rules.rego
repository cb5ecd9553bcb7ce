package site

deny contains {"action": action.name, "code": "c", "message": "m"} if {
	some action in data.lictor.actions
	some one, _ in {a: true | some a in data.lictor.actions}
	walk(one, [_, "secret"])
}
