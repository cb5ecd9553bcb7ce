package site

_deep(x) if {
	walk(x, [_, value])
	value == "secret"
}

deny contains {"action": action.name, "code": "c", "message": "m"} if {
	some action in data.lictor.actions
	_deep(action)
}
