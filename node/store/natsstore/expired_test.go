package natsstore

import (
	"testing"
	"time"

	"github.com/nats-io/nats.go"
)

// A server that forgot when a fact ends goes on telling it; nobody takes it for one.
func TestExpiredFactIsGone(t *testing.T) {
	for _, c := range []struct {
		ttl  string
		age  time.Duration
		gone bool
	}{
		{"", time.Hour, false},
		{"never", time.Hour, false},
		{"30", 29 * time.Second, false},
		{"30", 35 * time.Second, false}, // by a clock that is ahead
		{"30", 41 * time.Second, true},
	} {
		m := nats.NewMsg("")
		if c.ttl != "" {
			m.Header.Set(headerTTL, c.ttl)
		}
		if got := goneMsg(m, time.Now().Add(-c.age)); got != c.gone {
			t.Errorf("TTL %q, %s old: gone %t, want %t", c.ttl, c.age, got, c.gone)
		}
	}
}

// What the leader tells comes with its headers in another form.
func TestHeaderOfStoredMessage(t *testing.T) {
	m := storedMessage{Header: "TkFUUy8xLjANCk5hdHMtVFRMOiAzMA0KDQo="}
	if got := m.header().Get(headerTTL); got != "30" {
		t.Errorf("%q", got)
	}
	m.Header = "!"
	if got := m.header().Get(headerTTL); got != "" {
		t.Errorf("of a header that cannot be read: %q", got)
	}
}
