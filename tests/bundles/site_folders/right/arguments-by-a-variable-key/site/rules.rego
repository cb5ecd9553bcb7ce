package site

_keys := {concat("", ["argu", "ments"])}

deny contains {"action": action.name, "code": "c", "message": "m"} if {
	some action in data.lictor.actions
	some key in _keys
	action[key].q == "x"
}
