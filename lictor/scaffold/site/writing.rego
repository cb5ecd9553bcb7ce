# METADATA
# title: Rules of this site
# description: Each rule adds to `deny` or to `hidden`; both only narrow what lictor grants.
package site

# METADATA
# title: Only teams write
# description: Tools that carry the tag `write` are refused to opaque tokens.
deny contains {"action": action.name, "code": "teams_write", "message": "Only teams may write."} if {
	data.lictor.principal.type == "token"
	some action in data.lictor.actions
	"write" in action.tags
}

# METADATA
# title: Drafts are for editors
# description: Libraries that carry the tag `draft` are hidden from all but the team Editors.
hidden contains uid if {
	not _is_editor
	some uid in data.lictor.granted_libraries
	"draft" in data.lictor.library(uid).tags
}

_is_editor if {
	data.lictor.principal.type == "team"
	data.lictor.principal.name == "Editors"
}
