package site

deny contains {"action": a.name, "code": "c", "message": "m"} if {
	some a in _all
	contains(json.marshal(a), "secret")
}

_all contains a if some a in data.lictor.actions
