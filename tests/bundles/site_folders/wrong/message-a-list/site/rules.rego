package site

deny contains {"action": "x", "code": "c", "message": ["m"]}
