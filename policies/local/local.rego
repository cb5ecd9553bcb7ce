# METADATA
# title: What OPA starts with
# description: |
#   The bundle that `lictor opa` writes and starts OPA with, before it fetches any other. It owns `local`, and what OPA
#   keeps about bundles and modules: no bundle that comes later can have them.
package local

# METADATA
# description: |
#   OPA's authorization decision. No request is answered before the rules of the policy bundle are there: until then
#   another bundle could pretend to be them.
# entrypoint: true
default allow := false

allow if {
	roots := data.system.bundles.policy.manifest.roots
	"lictor" in roots
	"system/authz" in roots
	data.system.authz.allow
}
