package site.lib

writes(a) if "write" in a.tagz
