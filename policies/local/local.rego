# METADATA
# title: OPA's initial bundle
# description: |
#   The bundle that `lictor opa` writes and starts OPA with, before OPA fetches any other. It owns `local`, and OPA's
#   records of bundles and modules, so that later bundles cannot own them.
package local

# METADATA
# description: |
#   OPA's authorization decision. OPA rejects every request until the rules of the policy bundle are active: until then
#   another bundle could impersonate them.
# entrypoint: true
default allow := false

allow if {
	roots := data.system.bundles.policy.manifest.roots
	"lictor" in roots
	"system/authz" in roots
	data.system.authz.allow
}
