# METADATA
# description: A site whose rules come out of data, so that each dataset can have its own; `model.shapes` says the same.
package site

deny contains rule if some rule in data.rules.deny

deny contains {"action": action, "code": "tag", "message": "By tag."} if {
	some action in data.lictor.actions
	some tag in data.rules.tags
	tag in action.tags
}

deny contains {"action": action.name, "code": "name_tag", "message": "By the name of what has a tag."} if {
	some action in data.lictor.actions
	some tag in data.rules.name_tags
	tag in action.tags
}

hidden contains uid if some uid in data.rules.hidden

hidden contains uid if {
	some uid in data.lictor.granted_libraries
	some tag in data.rules.sealed
	tag in data.lictor.library(uid).tags
}
