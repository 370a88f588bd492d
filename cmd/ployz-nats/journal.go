package main

import (
	"fmt"
	"io"
	"os"
	"regexp"
	"sync"
)

// journal writes the server's log lines for systemd: the priority in front, no time of its own.
// Outside of a unit the priorities are spelled.
type journal struct {
	mu    sync.Mutex
	out   io.Writer
	plain bool
}

func newJournal(out io.Writer) *journal {
	return &journal{out: out, plain: os.Getenv("JOURNAL_STREAM") == ""}
}

func (j *journal) write(priority int, word, format string, args []any) {
	j.mu.Lock()
	defer j.mu.Unlock()
	start := word + ": "
	if !j.plain {
		start = fmt.Sprintf("<%d>", priority)
	}
	fmt.Fprintf(j.out, "%s%s\n", start, routeSecret.ReplaceAllString(fmt.Sprintf(format, args...), "${1}[REDACTED]@"))
}

// routeSecret is the voters' secret as nats-server prints it with the address of a route.
var routeSecret = regexp.MustCompile(`(//[a-z]+:)[^@/ "]+@`)

// Noticef is the ordinary line.
func (j *journal) Noticef(format string, v ...any) { j.write(6, "info", format, v) }

// Warnf is a line to look at.
func (j *journal) Warnf(format string, v ...any) { j.write(4, "warning", format, v) }

// Errorf is a failure that the server goes on after.
func (j *journal) Errorf(format string, v ...any) { j.write(3, "error", format, v) }

// Fatalf is a failure that the server must not go on after: a store that cannot be read back,
// say. It ends the process, as nats-server's own logger does.
func (j *journal) Fatalf(format string, v ...any) {
	j.write(2, "fatal", format, v)
	os.Exit(1)
}

// Debugf is off unless the configuration asks for it.
func (j *journal) Debugf(format string, v ...any) { j.write(7, "debug", format, v) }

// Tracef is off unless the configuration asks for it.
func (j *journal) Tracef(format string, v ...any) { j.write(7, "trace", format, v) }
