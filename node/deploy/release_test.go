package deploy_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/deploy"
	"github.com/ployz/ployz/node/runtime"
	"github.com/ployz/ployz/node/store"
	"github.com/ployz/ployz/node/store/memstore"
)

// hashSealer keeps nothing of a value but its hash, so that the value itself can be searched for.
type hashSealer struct{}

func (hashSealer) Seal(value []byte, _ []string) ([]byte, error) {
	sum := sha256.Sum256(value)
	return sum[:], nil
}

func (hashSealer) Reseal(_ context.Context, sealed []byte, _ []string, _, _ string) ([]byte, string, error) {
	return sealed, hex.EncodeToString(sealed), nil
}

func (hashSealer) Fingerprint(ns, name string, value []byte) string {
	sum := sha256.Sum256(slices.Concat([]byte(ns+name), value))
	return hex.EncodeToString(sum[:4])
}

// everywhere is every fact, every ledger entry, and the machine, in one text.
func (l *lab) everywhere(t *testing.T) string {
	t.Helper()
	var b strings.Builder
	feed, err := l.store.View().Follow(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer feed.Close()
	for {
		change, err := feed.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		b.WriteString(string(change.Fact.Key) + " " + string(change.Fact.Value) + "\n")
		if change.Current {
			break
		}
	}
	records, err := l.store.Log().Last(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range records {
		history, err := l.store.Log().History(t.Context(), r.Operation)
		if err != nil {
			t.Fatal(err)
		}
		for _, entry := range history {
			b.Write(entry.Value)
		}
	}
	list, err := l.runtime.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(list)
	if err != nil {
		t.Fatal(err)
	}
	return b.String() + string(text)
}

// contains finds a value as it is, and in base64 at any of its three alignments.
func contains(text, value string) bool {
	if strings.Contains(text, value) {
		return true
	}
	for shift := range 3 {
		encoded := base64.RawStdEncoding.EncodeToString(slices.Concat(make([]byte, shift), []byte(value)))
		if strings.Contains(text, encoded[4:len(encoded)-4]) {
			return true
		}
	}
	return false
}

// TestSecretsAreNowhereInPlainText, neither in facts nor in the ledger nor on the machine, however the deploy ends.
func TestSecretsAreNowhereInPlainText(t *testing.T) {
	const inline, stored = "correct-horse-battery", "staple-and-a-donkey"
	l := newLab(t)
	l.kit.Sealer = hashSealer{}
	l.mustRun(t, deploy.NewSetSecret(l.kit, "shop", "key", []byte(stored)))
	s := shop("v1")
	s.Secrets = map[string]api.Secret{"password": {Value: []byte(inline)}, "key": {External: true}}
	edit(&s, "app", func(s *api.Service) { s.Process.SecretEnv = map[string]string{"KEY": "key"} })
	l.mustRun(t, deploy.NewDeploy(l.kit, s, nil))
	edit(&s, "app", func(s *api.Service) { s.Image = "app:v2" })
	l.store.SetHooks(memstore.Hooks{BeforeCommit: func(b store.Batch) error {
		if strings.HasSuffix(b.ID, "-commit") {
			return memstore.NeverSent()
		}
		return nil
	}})
	if out := l.run(deploy.NewDeploy(l.kit, s, nil)); out.Outcome != api.RolledBack {
		t.Fatalf("it ended %s", out.Outcome)
	}
	l.store.SetHooks(memstore.Hooks{})
	plan, err := json.Marshal(l.preview(t, deploy.NewDeploy(l.kit, s, nil)))
	if err != nil {
		t.Fatal(err)
	}
	text := l.everywhere(t) + string(plan)
	for _, secret := range []string{inline, stored} {
		if contains(text, secret) {
			t.Errorf("%q can be found", secret)
		}
	}
	if !contains(text, "colour = 'red'") {
		t.Error("the search finds nothing: a config should be there")
	}
}

func slotsOf(c api.Commit) map[string]string {
	of := map[string]string{}
	for name, slot := range c.Slots {
		of[name] = slot.Instance
	}
	return of
}

// TestKeepReplaceScale: what did not change stays the very instance that it was.
func TestKeepReplaceScale(t *testing.T) {
	l := newLab(t)
	shopRuns(t, l)
	first := slotsOf(l.current(t, "shop"))
	expectSlots := func(what string, kept ...string) map[string]string {
		t.Helper()
		now := slotsOf(l.current(t, "shop"))
		for slot, instance := range now {
			if same := first[slot] == instance; same != slices.Contains(kept, slot) {
				t.Errorf("after %s %s is kept: %t", what, slot, same)
			}
		}
		for _, line := range l.runtime.World() {
			id := strings.Fields(line)[1]
			if !slices.Contains(slices.Collect(func(yield func(string) bool) {
				for _, instance := range now {
					if !yield(instance) {
						return
					}
				}
			}), id) {
				t.Errorf("after %s there is also %s", what, line)
			}
		}
		return now
	}
	l.mustRun(t, deploy.NewScale(l.kit, "shop", "app", 3))
	if now := expectSlots("scaling up", "db-0", "web-0", "app-0", "app-1"); len(now) != 5 {
		t.Errorf("%d slots", len(now))
	}
	l.mustRun(t, deploy.NewScale(l.kit, "shop", "app", 1))
	if now := expectSlots("scaling down", "db-0", "web-0", "app-0"); len(now) != 3 {
		t.Errorf("%d slots", len(now))
	}
	l.mustRun(t, deploy.NewScale(l.kit, "shop", "app", 0))
	if now := expectSlots("scaling to nothing", "db-0", "web-0"); len(now) != 2 {
		t.Errorf("%d slots", len(now))
	}
	if c := l.current(t, "shop"); !c.Spec.Services["app"].Placement.Zero {
		t.Error("the service was not kept")
	}
	l.mustRun(t, deploy.NewRestart(l.kit, "shop", "db"))
	expectSlots("restarting the db", "web-0")
	l.mustRun(t, deploy.NewRemove(l.kit, "shop"))
	if got := l.snapshot(); strings.Contains(got, "instance ") || strings.Contains(got, "link ") {
		t.Errorf("after rm the world is\n%s", got)
	}
	l.mustRun(t, deploy.NewRollback(l.kit, "shop", 0))
	if c := l.current(t, "shop"); len(c.Slots) != 2 || c.Of != 5 {
		t.Errorf("rolling the removal back: commit %d of %d with %v", c.Number, c.Of, c.Slots)
	}
}

// TestClearHeals: what should run and does not is started by an operation, and by nothing else.
func TestClearHeals(t *testing.T) {
	l := newLab(t)
	shopRuns(t, l)
	was := slotsOf(l.current(t, "shop"))
	l.runtime.End(was["app-1"], 1)
	l.mustRun(t, deploy.NewClear(l.kit, "shop"))
	for slot, instance := range slotsOf(l.current(t, "shop")) {
		if (was[slot] == instance) == (slot == "app-1") {
			t.Errorf("%s was %s and is %s", slot, was[slot], instance)
		}
	}
}

// TestRollbackRestores configs, secrets and images as they were, without asking for the values again.
func TestRollbackRestores(t *testing.T) {
	l := newLab(t)
	shopRuns(t, l)
	first := l.current(t, "shop")
	s := shop("v2")
	s.Secrets["password"] = api.Secret{Value: []byte("changed")}
	s.Configs["settings"] = api.Config{Content: []byte("colour = 'blue'\n")}
	l.mustRun(t, deploy.NewDeploy(l.kit, s, nil))
	l.images.Serve("app:v1", "moved on", runtime.ImageConfig{}) // the tag is another image by now
	l.mustRun(t, deploy.NewRollback(l.kit, "shop", 0))
	back := l.current(t, "shop")
	if back.Number != 3 || back.Of != 1 || back.Kind != "rollback" {
		t.Errorf("commit %d of %d by %s", back.Number, back.Of, back.Kind)
	}
	for name := range first.Slots {
		if first.Slots[name].Revision != back.Slots[name].Revision {
			t.Errorf("%s has revision %s, was %s", name, back.Slots[name].Revision, first.Slots[name].Revision)
		}
	}
	if differences, err := deploy.Diff(first, back); err != nil || len(differences) != 0 {
		t.Errorf("the difference to the first: %v %v", differences, err)
	}
	if !bytes.Equal(back.Secrets["password"].Sealed, first.Secrets["password"].Sealed) {
		t.Error("the secret is another")
	}
	list, err := l.runtime.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range list {
		for _, f := range o.Spec.Files {
			if f.Plain != nil && string(f.Plain) != "colour = 'red'\n" {
				t.Errorf("%s runs with %s", o.ID, f.Plain)
			}
		}
	}
}

func TestHistoryAndDiff(t *testing.T) {
	l := newLab(t)
	twoCommits(t, l)
	l.mustRun(t, deploy.NewRollback(l.kit, "shop", 1))
	history, err := deploy.History(t.Context(), l.store.Facts(), "shop")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, h := range history {
		got = append(got, fmt.Sprintf("%d %s of %d by %s, app %s, current %t", h.Number, h.Kind, h.Of, h.Caller, h.Images["app"], h.Current))
	}
	expectLines(t, got, "3 rollback of 1 by root, app app:v1, current true",
		"2 deploy of 0 by root, app app:v2, current false", "1 deploy of 0 by root, app app:v1, current false")

	one, err := deploy.ReadCommit(t.Context(), l.store.Facts(), "shop", 1)
	if err != nil {
		t.Fatal(err)
	}
	two := one
	two.Spec.Services = map[string]api.Service{"db": one.Spec.Services["db"]}
	two.Secrets = map[string]api.SealedSecret{"password": {Fingerprint: "other"}}
	two.Spec.Configs = map[string]api.Config{"settings": {Content: []byte("x")}}
	differences, err := deploy.Diff(one, two)
	if err != nil {
		t.Fatal(err)
	}
	shown := map[string]string{}
	for _, d := range differences {
		shown[d.Path] = d.From + " → " + d.To
	}
	for path, want := range map[string]string{
		".services.web.image": "web:v1 → ", ".secrets.password": "print-of-hunter2 → other", ".configs.settings.content": "colour = 'red'\n → x",
	} {
		if shown[path] != want {
			t.Errorf("%s: %q, want %q", path, shown[path], want)
		}
	}
}

// TestPortsSwitch: a published port leads to the new instance, moves between services, and is given back.
func TestPortsSwitch(t *testing.T) {
	l := newLab(t)
	ports := func() string {
		var list []string
		for _, line := range l.network.World() {
			if strings.HasPrefix(line, "port ") {
				list = append(list, suffix.ReplaceAllString(line, "$1"))
			}
		}
		return strings.Join(list, "; ")
	}
	step := func(what, want string, change func(s *api.Spec)) {
		t.Helper()
		s := shop("v1")
		change(&s)
		if out := l.run(deploy.NewDeploy(l.kit, s, nil)); out.Outcome != api.Committed {
			t.Fatalf("%s ended %s: %v %v", what, out.Outcome, out.Error, out.Leftovers)
		}
		if got := ports(); got != want {
			t.Errorf("after %s: %s\nwant %s", what, got, want)
		}
	}
	give := func(s *api.Spec, service string, ports ...api.Port) {
		edit(s, service, func(s *api.Service) { s.Ports = ports })
	}
	p81, p82 := api.Port{Published: 8081, Target: 80, Protocol: "tcp"}, api.Port{Published: 8082, Target: 80, Protocol: "tcp"}
	step("the first", "port :8081/tcp -> shop-web-0:80", func(*api.Spec) {})
	step("a new instance", "port :8081/tcp -> shop-web-0:80", func(s *api.Spec) {
		edit(s, "web", func(s *api.Service) { s.Process.WorkDir = "/srv" })
	})
	step("one more port", "port :8081/tcp -> shop-web-0:80; port :8082/tcp -> shop-web-0:80", func(s *api.Spec) { give(s, "web", p81, p82) })
	step("moving one to what comes before it", "port :8081/tcp -> shop-web-0:80; port :8082/tcp -> shop-db-0:80", func(s *api.Spec) {
		give(s, "web", p81)
		give(s, "db", p82)
	})
	step("swapping them", "port :8081/tcp -> shop-db-0:80; port :8082/tcp -> shop-web-0:80", func(s *api.Spec) {
		give(s, "web", p82)
		give(s, "db", p81)
	})
	step("taking over from a service that goes", "port :8082/tcp -> shop-db-0:80", func(s *api.Spec) {
		delete(s.Services, "web")
		give(s, "db", p82)
	})
	step("publishing nothing", "", func(s *api.Spec) { give(s, "web") })
}

// TestClaims: of two namespaces that want one hostname or gateway port at the same time exactly one gets it.
func TestClaims(t *testing.T) {
	want := func(ns string, r api.Route) api.Spec {
		return api.Spec{Namespace: ns, Services: map[string]api.Service{"web": {Image: "web:v1", Routes: []api.Route{r}}}}
	}
	for name, route := range map[string]api.Route{
		"hostname": {Host: "a.test", Port: 80}, "wildcard": {Host: "*.a.test", Port: 80}, "gateway port": {TCP: 5432, Port: 5432},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			var inner api.Outcome
			l.store.SetHooks(memstore.Hooks{BeforeCommit: func(b store.Batch) error {
				if inner.Outcome == "" && strings.HasSuffix(b.ID, "-commit") {
					l.store.SetHooks(memstore.Hooks{})
					inner = l.run(deploy.NewDeploy(l.kit, want("second", route), nil))
				}
				return nil
			}})
			outer := l.run(deploy.NewDeploy(l.kit, want("first", route), nil))
			if inner.Outcome != api.Committed || outer.Outcome != api.RolledBack || outer.Error.Code != api.CodeConflict {
				t.Errorf("they ended %s and %s: %v", inner.Outcome, outer.Outcome, outer.Error)
			}
			expectRefused(t, l.run(deploy.NewDeploy(l.kit, want("first", route), nil)), "services.web.routes deploy.hostname-taken")
			l.mustRun(t, deploy.NewRemove(l.kit, "second"))
			l.mustRun(t, deploy.NewDeploy(l.kit, want("first", route), nil))
		})
	}
}

// TestClaimsFollowTheRoutes: a hostname that is routed no more is free at once.
func TestClaimsFollowTheRoutes(t *testing.T) {
	l := newLab(t)
	shopRuns(t, l)
	s := shop("v1")
	edit(&s, "app", func(s *api.Service) { s.Routes = []api.Route{{Host: "new.test", Port: 8080}} })
	l.mustRun(t, deploy.NewDeploy(l.kit, s, nil))
	free := other()
	edit(&free, "web", func(s *api.Service) { s.Ports = nil })
	l.mustRun(t, deploy.NewDeploy(l.kit, free, nil))
}

// TestValues: set, replaced, used, removed; a removal whose answer was lost is found to have landed.
func TestValues(t *testing.T) {
	l := newLab(t)
	l.mustRun(t, deploy.NewSetConfig(l.kit, "shop", "settings", []byte("one")))
	s := shop("v1")
	s.Configs["settings"] = api.Config{External: true}
	l.mustRun(t, deploy.NewDeploy(l.kit, s, nil))
	if got := l.current(t, "shop").Spec.Configs["settings"].Content; string(got) != "one" {
		t.Errorf("the commit has %s", got)
	}
	before := slotsOf(l.current(t, "shop"))
	l.mustRun(t, deploy.NewSetConfig(l.kit, "shop", "settings", []byte("two")))
	if after := slotsOf(l.current(t, "shop")); after["app-0"] != before["app-0"] {
		t.Error("setting a config deployed it")
	}
	l.mustRun(t, deploy.NewDeploy(l.kit, s, nil))
	if after := slotsOf(l.current(t, "shop")); after["app-0"] == before["app-0"] || after["db-0"] != before["db-0"] {
		t.Error("the deploy after it did not replace exactly what uses it")
	}
	l.mustRun(t, deploy.NewRemoveConfig(l.kit, "shop", "settings"))
	if list, err := l.store.Facts().List(context.Background(), store.Configs("shop")); err != nil || len(list) != 0 {
		t.Errorf("after its removal: %v %v", list, err)
	}
	expectRefused(t, l.run(deploy.NewDeploy(l.kit, s, nil)), "configs.settings deploy.config-missing")
	l.mustRun(t, deploy.NewSetConfig(l.kit, "shop", "settings", []byte{}))
}
