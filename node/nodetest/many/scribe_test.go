package many_test

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/nodetest/onemachine"
)

// scribe writes one value after another into the cluster's facts, and remembers which of them it was told
// are committed. Those must never be lost.
type scribe struct {
	book string
	stop chan struct{}
	done chan struct{}
	rest func()         // stops it and waits
	told []string       // read after done
	ends map[string]int // how the writes ended; read after done
}

// scribble starts a scribe that asks some machines in turn, and goes on when one does not answer.
func scribble(t *testing.T, m *onemachine.Machine, book string, hosts ...string) *scribe {
	return scribbleFrom(t, m, book, 0, hosts...)
}

// scribbleFrom is scribble with names that begin at a number.
func scribbleFrom(t *testing.T, m *onemachine.Machine, book string, first int, hosts ...string) *scribe {
	s := &scribe{book: book, stop: make(chan struct{}), done: make(chan struct{}), ends: map[string]int{}}
	s.rest = sync.OnceFunc(func() { close(s.stop); <-s.done })
	t.Cleanup(s.rest) // a test that fails leaves nobody writing
	go func() {
		defer close(s.done)
		for n := first; ; n++ {
			select {
			case <-s.stop:
				return
			case <-time.After(breath):
				s.write(m.At(hosts[n%len(hosts)]), fmt.Sprintf("line-%d", n))
			}
		}
	}()
	return s
}

// breath is the pause between two writes.
const breath = 20 * time.Millisecond

func (s *scribe) write(m *onemachine.Machine, name string) {
	r := m.CtlWith("written", "config", "set", s.book+"/"+name)
	s.ends[fmt.Sprint("exit status ", r.Status)]++
	if r.Status == api.Committed.Exit() || r.Status == api.CommittedLeftovers.Exit() {
		s.told = append(s.told, name)
	}
}

// end stops the scribe and returns what it was told is committed, which must be something.
func (s *scribe) end(t *testing.T) []string {
	t.Helper()
	told := s.soFar(t)
	if len(told) == 0 {
		t.Error("nothing was committed at all")
	}
	return told
}

// soFar stops the scribe and returns what it was told is committed, if there was time for anything.
func (s *scribe) soFar(t *testing.T) []string {
	t.Helper()
	s.rest()
	t.Logf("writes ended with %v", s.ends)
	return s.told
}

// wantKept fails the test for everything that was told as committed and is not there.
func wantKept(t *testing.T, m *onemachine.Machine, book string, told []string) {
	t.Helper()
	have := strings.Fields(m.Must("config", "ls", book, "-q"))
	for _, name := range told {
		if !slices.Contains(have, name) {
			t.Errorf("%s/%s was told as committed and is not there", book, name)
		}
	}
	t.Logf("of %d values told as committed to %s, %s has all but %d", len(told), book, m.Host, missing(have, told))
}

func missing(have, told []string) (n int) {
	for _, name := range told {
		if !slices.Contains(have, name) {
			n++
		}
	}
	return n
}
