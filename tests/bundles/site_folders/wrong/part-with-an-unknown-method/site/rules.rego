package site

deny contains {"action": {"method": "tools/list"}, "code": "c", "message": "m"} if true
