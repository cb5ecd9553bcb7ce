"""Several `lictor serve` processes: one publishes, all of them serve (docs/adr/0007).

`lease` and `leader_loop` decide which one publishes, `object_store` and `uploader` keep what was
published, `follower` serves it from there, `message_bus` and `peers` carry what the processes
report to each other.
"""
