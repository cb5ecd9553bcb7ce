"""What instances share, through Redis or Valkey: the newest revision, jtis seen, use of tokens.

It needs the extra `redis`; nothing else of `pdp_client` does.
"""
