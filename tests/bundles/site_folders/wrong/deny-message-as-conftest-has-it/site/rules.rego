package site

deny contains msg if {
	some action in data.lictor.actions
	action.name == "x"
	msg := sprintf("%s is refused", [action.name])
}
