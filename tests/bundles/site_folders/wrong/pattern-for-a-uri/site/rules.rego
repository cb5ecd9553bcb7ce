package site

deny contains {"action": "data://books/*", "code": "c", "message": "m"} if true
