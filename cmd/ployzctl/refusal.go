package main

import (
	"fmt"
	"strings"

	"github.com/ployz/ployz/node/api"
)

// showError prints an error in full, under the word for what it did.
func (a *app) showError(word string, e *api.Error) {
	fmt.Fprintf(a.err, "%s: %s\n", a.paint(a.err, bad, word), firstLine(e))
	a.showPlace("  ", e)
	for _, d := range e.Details {
		fmt.Fprintf(a.err, "  - %s\n", firstLine(d))
		a.showPlace("    ", d)
	}
}

func firstLine(e *api.Error) string {
	text := fmt.Sprintf("%s (%s)", e.Message, e.Code)
	if e.Subject != "" {
		text = e.Subject + ": " + text
	}
	return text
}

// showPlace prints what an error has besides its message.
func (a *app) showPlace(indent string, e *api.Error) {
	if e.Step != "" {
		fmt.Fprintf(a.err, "%sin step %q of operation %s\n", indent, e.Step, e.Operation)
	}
	if len(e.Log) > 0 {
		fmt.Fprintf(a.err, "%sits last log lines:\n", indent)
		for _, line := range e.Log {
			fmt.Fprintf(a.err, "%s  | %s\n", indent, strings.TrimRight(line, "\r\n"))
		}
	}
	if e.Hint != "" {
		fmt.Fprintf(a.err, "%s→ %s\n", indent, e.Hint)
	}
}

// showOutcome prints what became of an operation and returns its exit status as an error, nil for 0.
func (a *app) showOutcome(out api.Outcome) error {
	if a.json {
		if err := a.writeJSON(out); err != nil {
			return err
		}
		return exitOf(out)
	}
	if out.Error != nil {
		a.showError(wordFor(out.Outcome), out.Error)
	}
	a.showLeftovers(out)
	a.lastLine(out)
	return exitOf(out)
}

func exitOf(out api.Outcome) error {
	if status := out.Outcome.Exit(); status != 0 {
		return exitStatus(status)
	}
	return nil
}

// wordFor is what an error is called before what became of the operation is said.
func wordFor(r api.Result) string {
	if r == api.Refused || r == api.Uncertain {
		return string(r)
	}
	return "failed"
}

func (a *app) showLeftovers(out api.Outcome) {
	for _, l := range out.Leftovers {
		fmt.Fprintf(a.err, "left over: %s: %s\n", l.Subject, l.Problem)
		if l.Clear != "" {
			fmt.Fprintf(a.err, "  → %s\n", l.Clear)
		}
	}
}

// lastLine is the clear last word. A success goes to standard output, all else is not the answer.
func (a *app) lastLine(out api.Outcome) {
	committed := out.Outcome == api.Committed || out.Outcome == api.CommittedLeftovers
	if a.quiet {
		if committed && out.Commit != "" {
			fmt.Fprintln(a.out, out.Commit)
		}
		return
	}
	w, colour := a.err, bad
	if committed {
		w, colour = a.out, good
	}
	if out.Outcome == api.CommittedLeftovers || out.Outcome == api.RolledBack {
		colour = odd
	}
	fmt.Fprintf(w, "%s: %s%s\n", a.paint(w, colour, string(out.Outcome)), ending(out), trailer(out))
}

// ending says in words what an outcome means for the world.
func ending(out api.Outcome) string {
	what := out.Kind
	if out.Scope != "" {
		what += " " + out.Scope
	}
	if out.Commit != "" {
		what += ", commit " + out.Commit
	}
	switch out.Outcome {
	case api.Committed:
		return what
	case api.CommittedLeftovers:
		return what + "; what is listed above was not cleaned up"
	case api.Refused:
		return what + "; nothing was changed"
	case api.RolledBack:
		return what + "; everything is as it was before"
	case api.Stranded:
		return what + "; not everything could be undone, see above"
	case api.Uncertain:
		return what + "; it may or may not have been committed"
	case api.Interrupted:
		return what + "; its coordinator died"
	}
	return what
}

func trailer(out api.Outcome) string {
	if out.Operation == "" {
		return ""
	}
	if out.Took == 0 {
		return fmt.Sprintf(" (operation %s)", out.Operation)
	}
	return fmt.Sprintf(" (operation %s, %s)", out.Operation, out.Took)
}
