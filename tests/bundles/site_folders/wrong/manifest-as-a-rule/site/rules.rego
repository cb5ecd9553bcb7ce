package site

manifest := {"clock": false}
