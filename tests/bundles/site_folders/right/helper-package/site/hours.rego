package site.hours

closed if {
	[hour, _, _] := time.clock(time.now_ns())
	hour >= 20
}
