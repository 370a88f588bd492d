package deploy_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/deploy"
	"github.com/ployz/ployz/node/operation"
	"github.com/ployz/ployz/node/runtime"
	"github.com/ployz/ployz/node/runtime/memruntime"
	"github.com/ployz/ployz/node/storage"
)

// quiesced is the stateful shop whose database holds still as asked.
func quiesced(q *api.Quiesce, level string) api.Spec {
	s := stateful("v1")
	edit(&s, "db", func(s *api.Service) { s.Quiesce = q })
	edit(&s, "web", func(s *api.Service) { s.Process.Env = map[string]string{"LEVEL": level} })
	return s
}

func quiescedRuns(q *api.Quiesce) func(t *testing.T, l *lab) {
	return func(t *testing.T, l *lab) { l.mustRun(t, deploy.NewDeploy(l.kit, quiesced(q, "1"), nil)) }
}

var hooks = &api.Quiesce{Before: []string{"checkpoint"}, After: []string{"go-on"}}

// record writes down, in order, what a machine does to its instances and its pool.
type record struct {
	mu    sync.Mutex
	lines []string // guarded by mu
}

func (s *record) note(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lines = append(s.lines, suffix.ReplaceAllString(fmt.Sprintf(format, args...), "$1"))
}

// lookingPool says who is frozen at the moment of a snapshot.
type lookingPool struct {
	storage.Pool
	look func(name string)
}

// Snapshot implements storage.Pool.
func (p lookingPool) Snapshot(ctx context.Context, name string, ids ...string) ([]storage.Snapshot, error) {
	p.look(name)
	return p.Pool.Snapshot(ctx, name, ids...)
}

// noted writes down what the machine does from now on.
func (l *lab) noted(t *testing.T) *record {
	t.Helper()
	s := &record{}
	l.runtime.Command = func(spec runtime.Spec, c runtime.Command) (int, error) {
		s.note("%s in %s", strings.Join(c.Args, " "), spec.ID)
		return 0, nil
	}
	l.runtime.SetFault(func(p memruntime.Point) error {
		if p.After && slices.Contains([]string{"Stop", "Start", "Freeze", "Thaw"}, p.Call) {
			s.note("%s %s", strings.ToLower(p.Call), p.Subject)
		}
		return nil
	})
	l.local.Pool = lookingPool{l.pool, func(string) {
		s.note("snapshot")
		for _, id := range l.frozen(t) {
			s.note("with %s frozen", id)
		}
	}}
	return s
}

func (l *lab) frozen(t testing.TB) (ids []string) {
	t.Helper()
	all, err := l.runtime.List(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range all {
		if o.Frozen {
			ids = append(ids, o.ID)
		}
	}
	return ids
}

// ofDatabase are the lines of a record about the instance of the database, and the snapshot.
func (s *record) ofDatabase() []string {
	return slices.DeleteFunc(slices.Clone(s.lines), func(line string) bool {
		return line != "snapshot" && !strings.Contains(line, "shop-db-0")
	})
}

// TestQuiesce: how a writer that goes on holds still for a commit's snapshot, and what the preview says of it.
func TestQuiesce(t *testing.T) {
	for name, c := range map[string]struct {
		quiesce *api.Quiesce
		apart   bool // the pool snapshots one volume after the other
		preview string
		steps   []string
		does    []string
	}{
		"by itself": {does: []string{"snapshot"}},
		"several volumes, one after the other": {
			apart: true, preview: "quiesce db-0: it stands still while its volumes are snapshot",
			does: []string{"freeze shop-db-0", "snapshot", "with shop-db-0 frozen", "thaw shop-db-0"},
		},
		"none": {quiesce: &api.Quiesce{Mode: "none"}, apart: true, does: []string{"snapshot"}},
		"freeze": {
			quiesce: &api.Quiesce{Mode: "freeze"}, preview: "quiesce db-0: it stands still while its volumes are snapshot",
			does: []string{"freeze shop-db-0", "snapshot", "with shop-db-0 frozen", "thaw shop-db-0"},
		},
		"commands": {
			quiesce: hooks,
			preview: "quiesce db-0: it stands still while its volumes are snapshot; before that it runs: checkpoint; after that it runs: go-on",
			does:    []string{"checkpoint in shop-db-0", "freeze shop-db-0", "snapshot", "with shop-db-0 frozen", "thaw shop-db-0", "go-on in shop-db-0"},
		},
		"commands alone": {
			quiesce: &api.Quiesce{Mode: "none", Before: []string{"checkpoint"}},
			preview: "quiesce db-0: it goes on writing while its volumes are snapshot; before that it runs: checkpoint",
			does:    []string{"checkpoint in shop-db-0", "snapshot"},
		},
		"stop": {
			quiesce: &api.Quiesce{Mode: "stop"}, preview: "quiesce db-0: it stops while its volumes are snapshot, and starts again",
			steps: []string{"hold still: stop db-0 for the snapshot on m1", "go on: start db-0 again on m1", "ready again: ready db-0 on m1"},
			does:  []string{"stop shop-db-0", "snapshot", "start shop-db-0"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			l.pool.Apart = c.apart
			quiescedRuns(c.quiesce)(t, l)
			next := deploy.NewDeploy(l.kit, quiesced(c.quiesce, "2"), nil)
			plan := l.preview(t, next)
			var want []string
			if c.preview != "" {
				want = []string{c.preview}
			}
			expectLines(t, about(lines(plan), "quiesce db"), want...)
			var still []string
			for _, phase := range []string{"hold still:", "go on:", "ready again:"} {
				still = append(still, about(phases(plan), phase)...)
			}
			expectLines(t, still, c.steps...)
			old, s := l.instance(t, "db-0"), l.noted(t)
			l.mustRun(t, deploy.NewDeploy(l.kit, quiesced(c.quiesce, "2"), nil))
			expectLines(t, s.ofDatabase(), c.does...)
			if l.instance(t, "db-0") != old || !l.running(old) || len(l.frozen(t)) > 0 {
				t.Errorf("%s does not go on as it was", old)
			}
		})
	}
}

// TestQuiesceFails: whatever goes wrong, nothing is snapshot, everything goes on, and the commands after are not left out.
func TestQuiesceFails(t *testing.T) {
	broken := errors.New("broken")
	at := func(call string) func(l *lab) {
		return func(l *lab) {
			l.runtime.SetFault(func(p memruntime.Point) error {
				if p.Call == call && !p.After {
					return broken
				}
				return nil
			})
		}
	}
	command := func(name string, status int, says string) func(l *lab) {
		return func(l *lab) {
			before := l.runtime.Command
			l.runtime.Command = func(s runtime.Spec, c runtime.Command) (int, error) {
				code, err := before(s, c)
				if c.Args[0] == name {
					io.WriteString(c.Stdout, says)
					return status, err
				}
				return code, err
			}
		}
	}
	for name, c := range map[string]struct {
		breaks func(l *lab)
		says   string
		log    []string
	}{
		"the command before": {command("checkpoint", 3, "one\ntwo\n"), "checkpoint ended with status 3", []string{"one", "two"}},
		"the command after":  {command("go-on", 1, "no\n"), "go-on ended with status 1", []string{"no"}},
		"the freeze":         {at("Freeze"), "broken", nil},
		"the thaw":           {at("Thaw"), "broken", nil},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			quiescedRuns(hooks)(t, l)
			before, s := l.snapshot(), l.noted(t)
			c.breaks(l)
			out := l.run(deploy.NewDeploy(l.kit, quiesced(hooks, "2"), nil))
			l.runtime.SetFault(nil)
			e := found(out.Error, api.CodeVolumeQuiesce)
			if out.Outcome != api.RolledBack || e == nil || !strings.Contains(e.Message, c.says) || !slices.Equal(e.Log, c.log) || e.Subject != "shop/db-0" || e.Hint == "" {
				t.Fatalf("%s: %+v", out.Outcome, out.Error)
			}
			if !slices.Contains(s.lines, "go-on in shop-db-0") {
				t.Errorf("the command after did not run: %q", s.lines)
			}
			for _, id := range l.frozen(t) { // only the broken thaw leaves one, until its time is over
				must(t, l.runtime.Thaw(t.Context(), id))
			}
			if now := l.snapshot(); now != before {
				t.Errorf("before:\n%s\nnow:\n%s", before, now)
			}
		})
	}
}

// TestQuiesceOfTheFrozen: what a daemon that died left frozen goes on before it is asked anything.
func TestQuiesceOfTheFrozen(t *testing.T) {
	l := newLab(t)
	quiescedRuns(hooks)(t, l)
	db, s := l.instance(t, "db-0"), l.noted(t)
	must(t, l.runtime.Freeze(t.Context(), db, time.Minute))
	l.mustRun(t, deploy.NewDeploy(l.kit, quiesced(hooks, "2"), nil))
	expectLines(t, s.ofDatabase()[:3], "freeze shop-db-0", "thaw shop-db-0", "checkpoint in shop-db-0")
}

// waiting is a console whose commands end only when they are made to.
type waiting struct{ runtime.Console }

// Exec implements runtime.Console.
func (waiting) Exec(ctx context.Context, _ string, _ runtime.Command) (int, error) {
	<-ctx.Done()
	return -1, ctx.Err()
}

// TestQuiesceTimeout: a command that does not end is ended.
func TestQuiesceTimeout(t *testing.T) {
	l := newLab(t)
	slow := &api.Quiesce{Before: []string{"checkpoint"}, Timeout: api.Duration(20 * time.Millisecond)}
	quiescedRuns(slow)(t, l)
	l.local.Console = waiting{l.runtime}
	out := l.run(deploy.NewDeploy(l.kit, quiesced(slow, "2"), nil))
	if e := found(out.Error, api.CodeVolumeQuiesce); out.Outcome != api.RolledBack || e == nil || !strings.Contains(e.Message, "had not ended after 20ms") {
		t.Fatalf("%s: %v", out.Outcome, out.Error)
	}
}

// TestQuiesceOfWhatEnded: an instance that does not run any more by the moment of the snapshot keeps nobody from it.
func TestQuiesceOfWhatEnded(t *testing.T) {
	l := newLab(t)
	quiescedRuns(hooks)(t, l)
	ended, s := l.instance(t, "db-0"), l.noted(t)
	l.runtime.End(ended, 1)
	order := deploy.SnapshotOrder{Name: "c2", Tag: "commit", Volumes: []string{l.volume(t, "data").ID}}
	for _, id := range []string{ended, "shop-db-0-gone"} {
		order.Quiesce = append(order.Quiesce, deploy.QuiesceInstance{Instance: id, Mode: api.QuiesceFreeze, Before: []string{"checkpoint"}})
	}
	taken, err := l.local.SnapshotVolumes(t.Context(), deploy.Fenced{Operation: "op", Scope: "ns/shop", Fence: 1 << 40}, order)
	if err != nil || len(taken) != 1 {
		t.Fatalf("%v %v", taken, err)
	}
	expectLines(t, s.lines, "snapshot")
}

// TestOriginHoldsStill: what another namespace's data begins as is of a quiesced moment too, and nothing of it is stopped.
func TestOriginHoldsStill(t *testing.T) {
	l := newLab(t)
	quiescedRuns(&api.Quiesce{Mode: "stop"})(t, l)
	plan := l.preview(t, l.branch(api.BranchRequest{From: "shop", Namespace: "try", Secrets: api.BranchSecretsCopy}))
	expectLines(t, about(lines(plan), "quiesce "), "quiesce shop/db-0: it stands still while its volumes are snapshot")
	s := l.noted(t)
	l.mustRun(t, l.branch(api.BranchRequest{From: "shop", Namespace: "try", Secrets: api.BranchSecretsCopy}))
	expectLines(t, s.ofDatabase()[:4], "freeze shop-db-0", "snapshot", "with shop-db-0 frozen", "thaw shop-db-0")
}

// quiesceCase is a deploy beside whose replacements the database goes on and holds still.
func quiesceCase(q *api.Quiesce) (before func(t *testing.T, l *lab), op func(l *lab) operation.Operation) {
	return quiescedRuns(q), func(l *lab) operation.Operation { return deploy.NewDeploy(l.kit, quiesced(q, "2"), nil) }
}
