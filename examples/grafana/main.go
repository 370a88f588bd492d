// Command grafana writes ployz.json, a Grafana dashboard of the figures in package metrics. The package installs it
// as /usr/share/ployz/grafana/ployz.json, beside prometheus.yml and README.md, which say how to scrape.
//
// `make generate` runs it; a test fails when the file is not what it would write, when a panel asks for a figure that
// no program tells, and when a figure is in no panel.
package main

import (
	"fmt"
	"os"
)

//go:generate go run .

func main() {
	text, err := dashboard()
	if err == nil {
		err = os.WriteFile(file, text, 0o644)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "grafana:", err)
		os.Exit(1)
	}
}
