package site

hidden contains {uid | some uid in data.lictor.granted_libraries}
