package site

deny contains {"action": action.name, "code": "c", "message": "m"} if {
	some action in data.lictor.actions
	crypto.x509.parse_and_verify_certificates("")[0]
}
