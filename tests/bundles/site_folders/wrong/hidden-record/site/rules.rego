package site

hidden contains data.lictor.library(uid) if some uid in data.lictor.granted_libraries
