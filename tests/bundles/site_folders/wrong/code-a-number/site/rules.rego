package site

deny contains {"action": "x", "code": 7, "message": "m"}
