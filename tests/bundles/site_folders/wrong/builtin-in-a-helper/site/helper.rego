package site.host

name := opa.runtime().env.HOSTNAME
