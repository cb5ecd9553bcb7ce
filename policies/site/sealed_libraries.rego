package site

# METADATA
# title: Sealed libraries
# description: |
#   Worked example. Libraries that carry the tag `sealed` are hidden from every team but the archive's.
hidden contains uid if {
	data.lictor.principal.type == "team"
	data.lictor.principal.name != "Archive"
	some uid in data.lictor.granted_libraries
	"sealed" in data.lictor.library(uid).tags
}
