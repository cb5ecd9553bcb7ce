package site

hidden contains uid if {
	some uid in data.lictor.granted_libraries
	"draft" in data.lictor.library(uid).tags
}

hidden contains "lib-old"
