package site.hours

late if time.now_ns() > 0
