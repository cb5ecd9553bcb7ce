package site

deny contains {"action": action.name, "code": "c", "message": "m"} if {
	some action in data.lictor.actions
	action.arguments.amount > 100
	some item in action.arguments.items
	item.price > 5
}
