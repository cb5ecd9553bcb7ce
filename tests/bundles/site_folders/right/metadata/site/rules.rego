# METADATA
# title: x
# scope: subpackages
package site

# METADATA
# title: y
# custom:
#   severity: high
deny contains {"action": action.name, "code": "c", "message": "m"} if {
	some action in data.lictor.actions
	action.name == "x"
}
