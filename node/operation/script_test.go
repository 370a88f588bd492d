package operation_test

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/coordination"
	"github.com/ployz/ployz/node/operation"
	"github.com/ployz/ployz/node/store"
	"github.com/ployz/ployz/node/store/memstore"
)

var update = flag.Bool("update", false, "write the golden transcripts anew")

// things is a world of named things, made and taken away by steps.
type things struct {
	mu   sync.Mutex
	have []string
}

func (w *things) put(name string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !slices.Contains(w.have, name) {
		w.have = append(w.have, name)
	}
}

func (w *things) take(name string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.have = slices.DeleteFunc(w.have, func(s string) bool { return s == name })
}

func (w *things) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return strings.Join(slices.Sorted(slices.Values(w.have)), " ")
}

// stage is a store, a world and a clock that moves a second at each look.
type stage struct {
	t      *testing.T
	store  *memstore.Store
	world  *things
	mu     sync.Mutex
	now    time.Time
	ids    int
	ttl    time.Duration
	leases []*coordination.Lease
	runner *operation.Runner
}

func newStage(t *testing.T) *stage {
	s := &stage{t: t, world: &things{}, now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}
	s.store = memstore.New(memstore.Config{Clock: s.clock})
	s.runner = &operation.Runner{
		Facts: s.store.Facts(), Log: s.store.Log(), Machine: "m1", Now: s.clock,
		NewID:   func() string { s.ids++; return fmt.Sprintf("op%d", s.ids) },
		Acquire: s.acquire,
	}
	t.Cleanup(s.bury)
	return s
}

func (s *stage) clock() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.now
}

func (s *stage) advance(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now = s.now.Add(d)
}

func (s *stage) acquire(ctx context.Context, scope string, h coordination.Holder) (operation.Lease, error) {
	lease, err := (&coordination.Leases{Facts: s.store.Facts(), TTL: s.ttl}).Acquire(ctx, scope, h)
	if err != nil {
		return nil, err
	}
	s.leases = append(s.leases, lease)
	return lease, nil
}

// bury stops every renewal, as the death of their process would, and lets the leases run out.
func (s *stage) bury() {
	for _, lease := range s.leases {
		lease.Abandon()
	}
	s.leases = nil
	s.advance(coordination.TTL + time.Second)
}

// script is an operation made of functions.
type script struct {
	kind    string
	inspect func(context.Context, operation.Situation) error
	plan    func() operation.Plan
	result  any
	// saw is the situation it was given.
	saw operation.Situation
}

func (s *script) Kind() string  { return s.kind }
func (s *script) Scope() string { return "thing/x" }
func (s *script) Result() any   { return s.result }

func (s *script) Inspect(ctx context.Context, before operation.Situation) error {
	s.saw = before
	if s.inspect == nil {
		return nil
	}
	return s.inspect(ctx, before)
}

func (s *script) Plan() operation.Plan { return s.plan() }

// step makes a thing, and takes it away again.
func (s *stage) step(name string) operation.Step {
	return operation.Step{
		Name: "make " + name, Participant: "m1", Clear: "ployzctl clear " + name,
		Do:   func(context.Context, *operation.Act) error { s.world.put(name); return nil },
		Undo: func(context.Context, *operation.Act) error { s.world.take(name); return nil },
	}
}

// failing is step, but acts and then fails.
func (s *stage) failing(name string, err error) operation.Step {
	step := s.step(name)
	step.Do = func(context.Context, *operation.Act) error { s.world.put(name); return err }
	return step
}

// cleaning takes a thing away after the commit.
func (s *stage) cleaning(name string, err error) operation.Step {
	return operation.Step{Name: "remove " + name, Clear: "ployzctl clear " + name, Do: func(context.Context, *operation.Act) error {
		if err == nil {
			s.world.take(name)
		}
		return err
	}}
}

const witness = store.Key("thing")

// commit is a commit on the witness as it is now.
func (s *stage) commit() operation.Commit {
	fact, err := s.store.Facts().Get(context.Background(), witness)
	if err != nil && !store.IsNotFound(err) {
		s.t.Fatal(err)
	}
	return operation.Commit{
		Witness: witness, Expect: fact.Revision, Content: "things",
		ID: func(op string) string { return "of-" + op },
		Batch: func(op string) ([]store.Put, error) {
			value, err := json.Marshal(map[string]string{"operation": op})
			return []store.Put{{Key: witness, Value: value, Expect: store.Expect(fact.Revision)}}, err
		},
	}
}

// plan is phases and a commit.
func (s *stage) plan(phases ...operation.Phase) operation.Plan {
	return operation.Plan{Phases: phases, Commit: s.commit()}
}

func phase(name string, steps ...operation.Step) operation.Phase {
	return operation.Phase{Name: name, Steps: steps}
}

// run runs a plan and returns the outcome and what the audience saw; killed when the coordinator "died".
func (s *stage) run(ctx context.Context, op *script) (out api.Outcome, seen []api.Event, dead bool) {
	defer func() {
		if r := recover(); r != nil {
			if r != any(errKilled) {
				panic(r)
			}
			s.bury()
			dead = true
		}
	}()
	out = s.runner.Run(ctx, operation.Request{Operation: op, Caller: "root", Audience: func(e api.Event) { seen = append(seen, e) }})
	return out, seen, false
}

var errKilled = errors.New("killed")

// transcript renders a run as a person would tell it, with what is left in the world and on the scope.
func (s *stage) transcript(out api.Outcome, seen []api.Event, dead bool) string {
	var b strings.Builder
	for _, e := range seen {
		fmt.Fprintln(&b, line(e))
	}
	if dead {
		fmt.Fprintln(&b, "(the coordinator died here)")
	} else {
		fmt.Fprintf(&b, "→ %s, exit %d\n", out.Outcome, out.Outcome.Exit())
		b.WriteString(details(out))
	}
	fmt.Fprintf(&b, "world: %s\n", s.world)
	for _, prefix := range []store.Key{witness, store.Opens(), store.Leases()} {
		list, err := s.store.Facts().List(context.Background(), prefix)
		if err != nil {
			s.t.Fatal(err)
		}
		for _, f := range list {
			fmt.Fprintf(&b, "fact: %s %s\n", f.Key, f.Value)
		}
	}
	return b.String()
}

func details(out api.Outcome) string {
	var b strings.Builder
	if out.Commit != "" {
		fmt.Fprintf(&b, "  commit %s\n", out.Commit)
	}
	if out.Error != nil {
		fmt.Fprintf(&b, "  error %v\n", out.Error)
		for _, d := range out.Error.Details {
			fmt.Fprintf(&b, "    %v\n", d)
		}
		if out.Error.Hint != "" {
			fmt.Fprintf(&b, "  hint %s\n", out.Error.Hint)
		}
	}
	for _, l := range out.Leftovers {
		fmt.Fprintf(&b, "  left %s: %s; clear: %s\n", l.Subject, l.Problem, l.Clear)
	}
	return b.String()
}

func line(e api.Event) string {
	words := []string{e.Type}
	add := func(format string, args ...any) { words = append(words, fmt.Sprintf(format, args...)) }
	if e.Index > 0 {
		add("%d/%d", e.Index, e.Of)
	}
	for _, w := range []string{e.Step, e.Participant, e.Witness, e.Message} {
		if w != "" {
			add("%s", w)
		}
	}
	if e.Phase != "" && e.Step == "" {
		add("%s", e.Phase)
	}
	if e.Type == api.EventProgress {
		add("%s %d/%d", e.Part, e.Done, e.Total)
	}
	if e.Error != nil {
		add("— %v", e.Error)
	}
	if e.Outcome != nil {
		add("%s", e.Outcome.Outcome)
	}
	return strings.Join(words, " ")
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name+".txt")
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s differs (-want +got):\n%s", path, diff)
	}
}
