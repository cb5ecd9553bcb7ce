"""From the registry to signed OPA bundles: checked, signed, published and served.

`policies` makes the policy and site bundles, `publisher` the data bundles, `server` serves them and
hears what each OPA runs, `opa_binary` and `opa_server` find and configure OPA itself.
"""
