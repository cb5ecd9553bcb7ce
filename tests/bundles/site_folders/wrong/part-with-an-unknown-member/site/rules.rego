package site

deny contains {"action": {"tag": ["write"]}, "code": "c", "message": "m"} if true
