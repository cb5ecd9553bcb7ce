package site

import rego.v1

deny contains {"action": action.name, "code": "c", "message": "m"} if {
	some action in data.lictor.actions
	action.name == "x"
}
