package oci_test

import (
	"io"
	"log"
)

// quiet keeps the registry's access log out of the tests' output.
var quiet = log.New(io.Discard, "", 0)
