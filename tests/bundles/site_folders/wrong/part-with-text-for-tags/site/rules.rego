package site

deny contains {"action": {"tags": "write"}, "code": "c", "message": "m"} if true
