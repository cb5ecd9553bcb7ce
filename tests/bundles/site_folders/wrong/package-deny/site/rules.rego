package site.deny

drafts contains "x"
