package site

deny := {"x"}
