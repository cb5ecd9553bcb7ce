# METADATA
# title: What OPA's decision log leaves out
# description: |
#   Arguments may hold anything. What else a decision's input has (a digest, verified claims, names) is in
#   the log, so that the decision can be asked again.
package system.log

# METADATA
# description: Paths that are erased before a decision is logged.
# entrypoint: true
mask contains "/input/action/arguments"

mask contains sprintf("/input/actions/%d/arguments", [i]) if some i, _ in input.input.actions
