// Command testsum reads what `go test -json` wrote and ends a test run: the slowest packages and
// tests, and one last line of the form "N passed, N failed, N skipped". Subtests count with their
// test. A package that did not build, or that failed outside of its tests, counts as one failure.
//
// It exits with 1 when something failed, or when there was nothing to read.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
)

// event is one line of `go test -json`.
type event struct {
	Action  string
	Package string
	Test    string
	Elapsed float64 // seconds
}

// summary is what a run came to.
type summary struct {
	passed, failed, skipped int
	packages, tests         []timed
	brokenIn                map[string]bool // packages with a failed test
	failures                []string
}

type timed struct {
	name    string
	seconds float64
}

func main() {
	s := summary{brokenIn: map[string]bool{}}
	for _, file := range os.Args[1:] {
		if err := s.readFile(file); err != nil {
			fmt.Fprintf(os.Stderr, "testsum: %s: %v\n", file, err)
			os.Exit(1)
		}
	}
	s.print(os.Stdout)
	if s.failed > 0 || s.passed == 0 {
		os.Exit(1)
	}
}

func (s *summary) readFile(name string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	for lines := json.NewDecoder(f); ; {
		var e event
		if err := lines.Decode(&e); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		s.add(e)
	}
}

func (s *summary) add(e event) {
	if strings.Contains(e.Test, "/") {
		return
	}
	if e.Test == "" {
		s.addPackage(e)
		return
	}
	switch e.Action {
	case "pass":
		s.passed++
	case "skip":
		s.skipped++
	case "fail":
		s.failed++
		s.brokenIn[e.Package] = true
		s.failures = append(s.failures, short(e.Package)+" "+e.Test)
	default:
		return
	}
	s.tests = append(s.tests, timed{short(e.Package) + " " + e.Test, e.Elapsed})
}

func (s *summary) addPackage(e event) {
	if e.Action == "fail" && !s.brokenIn[e.Package] {
		s.failed++
		s.failures = append(s.failures, short(e.Package)+" (did not build, or failed outside of its tests)")
	}
	if e.Action == "pass" || e.Action == "fail" {
		s.packages = append(s.packages, timed{short(e.Package), e.Elapsed})
	}
}

func short(pkg string) string { return strings.TrimPrefix(pkg, "github.com/ployz/ployz/") }

func (s *summary) print(w io.Writer) {
	printSlowest(w, "packages", s.packages)
	printSlowest(w, "tests", s.tests)
	for _, f := range s.failures {
		fmt.Fprintln(w, "FAILED", f)
	}
	fmt.Fprintf(w, "%d passed, %d failed, %d skipped\n", s.passed, s.failed, s.skipped)
}

func printSlowest(w io.Writer, what string, all []timed) {
	slices.SortFunc(all, func(a, b timed) int { return int(1000 * (b.seconds - a.seconds)) })
	fmt.Fprintf(w, "slowest %s:\n", what)
	for _, t := range all[:min(8, len(all))] {
		fmt.Fprintf(w, "  %7.2fs  %s\n", t.seconds, t.name)
	}
}
