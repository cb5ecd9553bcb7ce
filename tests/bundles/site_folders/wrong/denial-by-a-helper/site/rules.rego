package site

deny contains one if some one in _refusals

_refusals contains {"action": "x", "message": "m"}
