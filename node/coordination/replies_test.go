package coordination_test

import (
	"context"
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/ployz/ployz/node/coordination"
	"github.com/ployz/ployz/node/coordination/membus"
)

// counter answers how often it has acted.
type counter struct {
	*coordination.Calls
	dir string
	n   int
}

func newCounter(t *testing.T) *counter {
	t.Helper()
	c := &counter{dir: t.TempDir()}
	replies, err := coordination.OpenReplies(c.dir)
	if err != nil {
		t.Fatal(err)
	}
	r := &coordination.Responder{
		Machine: "m1", Verify: credulous, Replies: replies, Log: slog.New(slog.DiscardHandler),
		Fences: open(t, filepath.Join(t.TempDir(), "fences.json")),
		Verbs: map[string]coordination.Verb{"act": {Acts: true, Do: func(context.Context, coordination.Command, func(json.RawMessage)) (json.RawMessage, error) {
			c.n++
			return json.RawMessage(strconv.Itoa(c.n)), nil
		}}},
	}
	bus := &membus.Bus{}
	t.Cleanup(bus.Listen("m1", r.Receive))
	c.Calls = &coordination.Calls{Machine: "m1", Wire: bus, Sign: unsigned}
	return c
}

func (c *counter) act(t *testing.T, step int) string {
	t.Helper()
	cmd := coordination.Command{Verb: "act", Operation: "op", Step: strconv.Itoa(step), Scope: "ns/a", Fence: 1}
	body, err := c.Call(t.Context(), "m1", cmd, nil)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

// TestRepliesAreBounded: the oldest answers go, the newest stay.
func TestRepliesAreBounded(t *testing.T) {
	c := newCounter(t)
	const most = 1024
	for i := range most + 10 {
		c.act(t, i)
	}
	if files, err := os.ReadDir(c.dir); err != nil || len(files) != most {
		t.Errorf("%d files, %v", len(files), err)
	}
	if got := c.act(t, most); got != strconv.Itoa(most+1) {
		t.Errorf("a late one is answered %s", got)
	}
	if got := c.act(t, 0); got != strconv.Itoa(most+11) {
		t.Errorf("the first is answered %s, it should have been forgotten", got)
	}
}

// TestDamagedReply: an answer that cannot be read is one that was forgotten.
func TestDamagedReply(t *testing.T) {
	c := newCounter(t)
	c.act(t, 1)
	files, err := filepath.Glob(filepath.Join(c.dir, "*.json"))
	if err != nil || len(files) != 1 {
		t.Fatal(files, err)
	}
	if err := os.WriteFile(files[0], []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := c.act(t, 1); got != "2" {
		t.Errorf("it answered %s", got)
	}
	if got := c.act(t, 1); got != "2" {
		t.Errorf("it answered %s", got)
	}
}
