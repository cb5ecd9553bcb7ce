package site

_writes(a) if "write" in a.tagz

deny contains {"action": action.name, "code": "c", "message": "m"} if {
	some action in data.lictor.actions
	_writes(action)
}
