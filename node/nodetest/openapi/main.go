// Command openapi writes node/api/openapi.json, the description of ployzd's HTTP surface, from the routes that
// node/daemon serves and from the types of node/api with their comments. `make generate` runs it; a test fails
// when the file is not what it would write.
//
// It needs the module's sources. It must never be part of what is installed: ployzd serves the file.
package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/ployz/ployz/node/nodetest/testenv"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "openapi:", err)
		os.Exit(1)
	}
}

// file is the description's place in the module.
var file = filepath.Join("node", "api", "openapi.json")

func run() error {
	if err := os.Chdir(testenv.Repo()); err != nil { // comments are read from the sources
		return err
	}
	text, err := describe()
	if err != nil {
		return err
	}
	return os.WriteFile(file, text, 0o644)
}
