"""From the registry to signed OPA bundles: checked, signed, published and served.

`build` makes the policy and site bundles, `publish` the data bundles. `serve` hands them to OPA,
`fleet` tracks what each OPA runs, `cluster` lets several servers share the work, `opa` finds and
configures OPA itself.
"""
