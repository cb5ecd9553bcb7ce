package site

deny contains {"action": a.name, "code": "c", "message": "m"} if some a in _writing

_writing contains a if {
	some a in data.lictor.actions
	"write" in a.tagz
}
