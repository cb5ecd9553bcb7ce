package site

hidden contains data.lictor.library(uid).name if some uid in data.lictor.granted_libraries
