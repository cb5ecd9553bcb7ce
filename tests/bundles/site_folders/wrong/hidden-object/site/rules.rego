package site

hidden contains {"uid": uid} if some uid in data.lictor.granted_libraries
