// Command program is the workload of runtimetest, to be built into a test's image as /program.
package main

import (
	"os"

	"github.com/ployz/ployz/node/runtime/runtimetest"
)

func main() { runtimetest.Main(os.Args[1:]) }
