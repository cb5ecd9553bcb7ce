package site

deny contains {"action": "pay_*", "code": "c", "message": "m"} if true
