package main

// The rules of output. Every command follows them, so that a person, a pipe and a program each get
// what they can use.
//
//  1. Standard output carries the answer, standard error everything on the way to it.
//  2. --json: standard output is JSON and nothing else, standard error is silent. One object for
//     everything that ends; one object a line for what flows (logs, events, watch, deploy --events).
//  3. An operation ends with one line that says what became of it; under --json with its outcome.
//  4. A refusal says what, where, the value seen, the last log lines, each further reason, and after
//     an arrow the next command. It says whether anything was changed.
//  5. Colour is for states only, only on a terminal, never with NO_COLOR, and never the only sign.
//  6. A printed line stays. Only the line of what is under way is rewritten, and only on a terminal.
//  7. Tables have headings in capitals and two spaces between columns; nothing is cut short.
//  8. -q prints what a script would want to keep (a commit, an id, names), one a line, or nothing.

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"golang.org/x/term"
)

// writeJSON prints one object on one line. A reader that is gone ends the program by its signal.
func (a *app) writeJSON(value any) error { return json.NewEncoder(a.out).Encode(value) }

// answer prints a value as JSON, or leaves it to show.
func (a *app) answer(value any, show func() error) error {
	if a.json {
		enc := json.NewEncoder(a.out)
		enc.SetIndent("", "  ")
		return enc.Encode(value)
	}
	return show()
}

// table prints rows under headings.
func (a *app) table(headings string, rows [][]string) error {
	w := tabwriter.NewWriter(a.out, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, strings.Join(strings.Fields(headings), "\t"))
	for _, row := range rows {
		fmt.Fprintln(w, strings.Join(row, "\t"))
	}
	return w.Flush()
}

// oneRow is a text for a place that has one row: its first line, and a sign when there is more.
func oneRow(text string) string {
	first, rest, _ := strings.Cut(strings.TrimSpace(text), "\n")
	if rest == "" {
		return first
	}
	return strings.TrimRight(first, " :;") + " …"
}

// note says something on the way.
func (a *app) note(format string, args ...any) {
	if !a.quiet && !a.json {
		fmt.Fprintf(a.err, format+"\n", args...)
	}
}

// isTerminal reports whether a stream is one.
func isTerminal(stream any) bool {
	f, ok := stream.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// The colours of states.
const (
	good = "32"
	bad  = "31"
	odd  = "33"
)

// paint colours a word for one stream, where that is allowed.
func (a *app) paint(w io.Writer, colour, word string) string {
	if a.environ("NO_COLOR") != "" || a.environ("TERM") == "dumb" || !isTerminal(w) {
		return word
	}
	return "\x1b[" + colour + "m" + word + "\x1b[0m"
}

// ago is a time as a person would say it, or "-" for none.
func ago(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return short(time.Since(t)) + " ago"
}

// short is a duration in its two largest units.
func short(d time.Duration) string {
	switch {
	case d < 0:
		return "0s"
	case d < time.Second:
		return d.Round(time.Millisecond).String()
	case d < time.Minute:
		return d.Round(100 * time.Millisecond).String()
	case d < time.Hour:
		return fmt.Sprintf("%dm%ds", int(d.Minutes()), int(d.Seconds())%60)
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh%dm", int(d.Hours()), int(d.Minutes())%60)
	}
	return fmt.Sprintf("%dd", int(d.Hours()/24))
}

// size is a number of bytes in decimal units; -1 is unknown.
func size(n int64) string {
	switch {
	case n < 0:
		return "-"
	case n < 1000:
		return fmt.Sprintf("%d B", n)
	case n < 1000_000:
		return fmt.Sprintf("%.1f kB", float64(n)/1e3)
	case n < 1000_000_000:
		return fmt.Sprintf("%.1f MB", float64(n)/1e6)
	}
	return fmt.Sprintf("%.2f GB", float64(n)/1e9)
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
