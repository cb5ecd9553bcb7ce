package site

deny contains {"action": action.name, "code": "c", "message": "m"} if {
	some action in data.lictor.actions
	http.send({"url": "http://127.0.0.1", "method": "GET"}).status_code == 200
}
