package coordination_test

import (
	"context"
	"encoding/json"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/coordination"
)

// credulous believes every signature, so that what comes after it is tried.
func credulous(context.Context, string, []byte, []byte) error { return nil }

func unsigned(text []byte) ([]byte, error) { return nil, nil }

// FuzzReceive: whatever arrives, there is no panic, and exactly one last word.
func FuzzReceive(f *testing.F) {
	f.Add([]byte("\n" + `{"version":1,"audience":"m1","sender":"m2","issued":"2030-01-01T00:00:00Z","expires":"2030-01-01T00:00:30Z",` +
		`"allowedNanos":1000000,"command":{"verb":"test.act","operation":"o","scope":"s","fence":1,"body":1}}`))
	f.Add([]byte("QUJD\n" + `{"version":1,"audience":"m1","command":{"verb":"cancel","body":"x"}}`))
	f.Add([]byte("QUJD\n{"))
	f.Add([]byte("\n"))
	fences, err := coordination.OpenFences(filepath.Join(f.TempDir(), "fences.json"))
	if err != nil {
		f.Fatal(err)
	}
	replies, err := coordination.OpenReplies(f.TempDir())
	if err != nil {
		f.Fatal(err)
	}
	r := &coordination.Responder{
		Machine: "m1", Verify: credulous, Fences: fences, Replies: replies, Log: slog.New(slog.DiscardHandler),
		Now: func() time.Time { return time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC) },
		Verbs: map[string]coordination.Verb{"test.act": {Acts: true, Do: func(_ context.Context, cmd coordination.Command, _ func(json.RawMessage)) (json.RawMessage, error) {
			return cmd.Body, nil
		}}},
	}
	f.Fuzz(func(t *testing.T, sealed []byte) {
		answers := 0
		r.Receive(t.Context(), sealed, func(frame []byte) error {
			var said struct{ Kind string }
			if err := json.Unmarshal(frame, &said); err != nil {
				t.Errorf("a frame that cannot be read: %v", err)
			}
			if said.Kind == "answer" {
				answers++
			}
			return nil
		})
		if answers != 1 {
			t.Errorf("%d answers", answers)
		}
	})
}

// TestPass: a pass says who asks for what, at one machine and not for long.
func TestPass(t *testing.T) {
	sent := coordination.Pass{Sender: "m1", Caller: "root", Request: "GET /v1/logs?namespace=shop"}
	text, err := coordination.IssuePass(sent, "m2", unsigned)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := coordination.ReadPass(t.Context(), text, "m2", credulous); err != nil || got != sent {
		t.Errorf("%+v %v", got, err)
	}
	for name, read := range map[string]func() error{
		"at another machine": func() error { _, err := coordination.ReadPass(t.Context(), text, "m3", credulous); return err },
		"cut":                func() error { _, err := coordination.ReadPass(t.Context(), text[:20], "m2", credulous); return err },
		"of a stranger": func() error {
			refuse := func(context.Context, string, []byte, []byte) error { return context.Canceled }
			_, err := coordination.ReadPass(t.Context(), text, "m2", refuse)
			return err
		},
	} {
		if err := read(); api.CodeOf(err) != api.CodeParticipantRefused {
			t.Errorf("%s: %v", name, err)
		}
	}
}
