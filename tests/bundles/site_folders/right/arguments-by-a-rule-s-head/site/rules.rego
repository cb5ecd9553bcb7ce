package site

_by_action[a] := true if some a in data.lictor.actions

deny contains {"action": action.name, "code": "c", "message": "m"} if {
	some action in data.lictor.actions
	some one, _ in _by_action
	walk(one, [_, "secret"])
}
