package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/term"
	"os"

	"github.com/ployz/ployz/node/api"
)

// live shows an operation's events as they come: a line for each phase and each step that ended and,
// on a terminal, one line that is rewritten with what is under way.
type live struct {
	a   *app
	w   io.Writer
	tty bool

	mu     sync.Mutex
	active []string  // guarded by mu; steps under way, in order
	bytes  api.Event // guarded by mu; the last progress
	drawn  bool      // guarded by mu; the rewritten line is on the screen
}

func (a *app) newLive() *live {
	return &live{a: a, w: a.err, tty: isTerminal(a.err) && a.environ("TERM") != "dumb"}
}

// show takes one event.
func (l *live) show(e api.Event) {
	if l.a.json || l.a.quiet {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.erase()
	l.event(e)
	l.draw()
}

// end takes the rewritten line away.
func (l *live) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.erase()
}

func (l *live) event(e api.Event) {
	switch e.Type {
	case api.EventOpened:
		fmt.Fprintf(l.w, "%s %s  operation %s\n", e.Kind, e.Scope, e.Operation)
	case api.EventPhase:
		fmt.Fprintf(l.w, "[%d/%d] %s\n", e.Index, e.Of, e.Phase)
	case api.EventStepIntended, api.EventUndoIntended:
		l.active = append(l.active, stepName(e))
	case api.EventStepDone:
		l.ended(e, fmt.Sprintf("%-34s %s", stepName(e), short(time.Duration(e.Took))))
	case api.EventStepFailed:
		l.ended(e, fmt.Sprintf("%-34s %s", stepName(e), l.a.paint(l.w, bad, "failed")+reason(e)))
	case api.EventUndone:
		l.ended(e, fmt.Sprintf("%-34s %s", "undo "+stepName(e), "done"))
	case api.EventUndoFailed:
		l.ended(e, fmt.Sprintf("%-34s %s", "undo "+stepName(e), l.a.paint(l.w, bad, "failed")+reason(e)))
	case api.EventNotCommitted:
		fmt.Fprintf(l.w, "%s\n", l.a.paint(l.w, odd, "not committed: undoing"))
	case api.EventCommitted:
		fmt.Fprintf(l.w, "%s\n", l.a.paint(l.w, good, "committed"))
	case api.EventProgress:
		l.bytes = e
	case api.EventNote:
		fmt.Fprintf(l.w, "      %s%s\n", e.Message, reason(e))
	}
}

func stepName(e api.Event) string {
	if e.Participant == "" {
		return e.Step
	}
	return e.Step + " on " + e.Participant
}

func reason(e api.Event) string {
	if e.Error == nil {
		return ""
	}
	return ": " + oneRow(e.Error.Message) // the whole of it stands below the outcome
}

func (l *live) ended(e api.Event, line string) {
	if at := slices.Index(l.active, stepName(e)); at >= 0 {
		l.active = slices.Delete(l.active, at, at+1)
	}
	if l.bytes.Step == e.Step {
		l.bytes = api.Event{}
	}
	fmt.Fprintf(l.w, "      %s\n", strings.TrimRight(line, " "))
}

func (l *live) erase() {
	if l.drawn {
		io.WriteString(l.w, "\r\x1b[K")
		l.drawn = false
	}
}

func (l *live) draw() {
	if !l.tty || len(l.active) == 0 {
		return
	}
	text := "      … " + strings.Join(l.active, ", ")
	if l.bytes.Part != "" {
		text = "      … " + l.bytes.Step + "  " + bar(l.bytes.Done, l.bytes.Total)
	}
	io.WriteString(l.w, cut(text, l.width()-1))
	l.drawn = true
}

func (l *live) width() int {
	if f, ok := l.w.(*os.File); ok {
		if w, _, err := term.GetSize(int(f.Fd())); err == nil && w > 20 {
			return w
		}
	}
	return 80
}

// cut keeps the rewritten line on one row; only it is ever cut.
func cut(text string, width int) string {
	runes := []rune(text)
	if len(runes) <= width {
		return text
	}
	return string(runes[:width-1]) + "…"
}

// barCells is the width of a progress bar.
const barCells = 20

// bar draws bytes of a total, or only the bytes when the total is unknown.
func bar(done, total int64) string {
	if total <= 0 {
		return size(done)
	}
	full := int(min(done, total) * barCells / total)
	return fmt.Sprintf("[%s%s] %s of %s", strings.Repeat("=", full), strings.Repeat(" ", barCells-full), size(done), size(total))
}
