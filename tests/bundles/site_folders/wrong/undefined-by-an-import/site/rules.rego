package site

import data.site.constants

deny contains {"action": action.name, "code": "c", "message": "m"} if {
	some action in data.lictor.actions
	action.name in constants.closed
	constants.open
}
