package site

deny contains {"action": {"name": "pay_?"}, "code": "c", "message": "m"} if true
