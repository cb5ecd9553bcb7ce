package site

_size(x) := count(x)

deny contains {"action": action.name, "code": "c", "message": "m"} if {
	some action in data.lictor.actions
	_size(action.tags) > 2
	_size(action.name) > 3
}
