package site

deny contains {"action": name, "code": "c", "message": "m"} if some name in _names

_names := {"pay_*"}
