# METADATA
# title: Fields that OPA's decision log omits
# description: |
#   Arguments may hold anything. The rest of a decision's input (a digest, verified claims, names) is in the
#   log, so that the query can be repeated.
package system.log

# METADATA
# description: Paths that are erased before a decision is logged.
# entrypoint: true
mask contains "/input/action/arguments"

mask contains sprintf("/input/actions/%d/arguments", [i]) if some i, _ in input.input.actions
