package site

_a(x) if _b(x)

_b(x) if "write" in x.tagz

deny contains {"action": action.name, "code": "c", "message": "m"} if {
	some action in data.lictor.actions
	_a(action)
}
