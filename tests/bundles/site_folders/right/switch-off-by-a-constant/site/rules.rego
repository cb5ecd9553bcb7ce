package site

_mode := "lenient"

_enforce := false

deny contains {"action": action.name, "code": "c", "message": "m"} if {
	some action in data.lictor.actions
	_mode == "strict"
	_enforce == true
}
