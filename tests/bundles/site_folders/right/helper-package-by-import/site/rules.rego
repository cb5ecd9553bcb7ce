package site

import data.site.hours

deny contains {"action": action.name, "code": "c", "message": "m"} if {
	some action in data.lictor.actions
	hours.closed
}
