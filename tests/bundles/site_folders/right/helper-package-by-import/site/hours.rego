package site.hours

default closed := false

closed if time.weekday(time.now_ns()) == "Sunday"
