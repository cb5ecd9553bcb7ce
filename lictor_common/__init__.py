"""What the other packages share: Redis, authenticated messages, periodic tasks, private files.

It imports none of them. Only `lictor_common.redis` needs the extra `redis`.
"""
