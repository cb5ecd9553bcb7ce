package site

import future.keywords.contains
import future.keywords.if
import future.keywords.in

deny contains {"action": action.name, "code": "c", "message": "m"} if {
	some action in data.lictor.actions
	action.name == "x"
}
