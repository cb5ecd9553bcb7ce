package site

import data.lictor.actions
import data.lictor.library
import data.lictor.principal as caller

deny contains {"action": action.name, "code": "c", "message": "m"} if {
	some action in actions
	caller.type == "team"
	"write" in action.tags
}

hidden contains uid if {
	some uid in data.lictor.granted_libraries
	"draft" in library(uid).tags
}
