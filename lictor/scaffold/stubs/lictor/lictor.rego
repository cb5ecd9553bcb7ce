# METADATA
# title: Stand-ins for what lictor offers to site rules
# description: |
#   They let `opa check`, `opa test`, Regal and editors resolve every reference. They are never signed:
#   lictor's own rules take their place. Tests replace them with `with data.lictor.… as …`.
package lictor

# METADATA
# description: |
#   The actions in question: one for a call, many for a list. Each is an object with `method`, `name`,
#   `tags`, and where there are any `version`, `uri`, `annotations`, `arguments`.
actions := data.stubs.actions

# METADATA
# description: An object with `type`, `id`, `name` and `user`; null for a caller that is not known.
principal := data.stubs.principal

# METADATA
# description: A set of uids, the caller's libraries before the site's rules.
granted_libraries := data.stubs.granted_libraries

# METADATA
# description: A library's `name` and `tags`; undefined for a library without tags.
library(uid) := data.stubs.libraries[uid]
