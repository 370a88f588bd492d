package sim

import (
	"fmt"
	"time"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/runtime"
	"github.com/ployz/ployz/node/runtime/memruntime"
)

func image(service string, version int) string { return fmt.Sprintf("%s:v%d", service, version) }

// spec is what the ask wants of its namespace. Both namespaces route one hostname in common in some versions,
// and publish one port.
func (a ask) spec() api.Spec {
	ready := &api.Probe{Exec: []string{"ready"}, Interval: api.Duration(500 * time.Millisecond), Deadline: api.Duration(8 * time.Second)}
	spec := api.Spec{Namespace: a.subject, Services: map[string]api.Service{
		"app": {
			Image: image("app", a.version), Placement: api.Placement{Replicas: a.number}, Ready: ready,
			Routes: []api.Route{{Host: a.subject + ".test", Port: 80}},
			Update: api.Update{Drain: api.Duration(time.Second)},
		},
	}}
	if a.number%2 == 0 {
		spec.Services["web"] = api.Service{
			Image: image("web", a.version), Ready: ready, DependsOn: map[string]api.Condition{"app": api.Ready},
			Ports:  []api.Port{{Published: 8081, Target: 80, Protocol: "tcp"}},
			Update: api.Update{Order: "stop-first", Drain: api.Duration(time.Second)},
		}
	}
	if a.number == 3 {
		spec.Services["job"] = api.Service{Image: image("job", a.version), Job: &api.Job{When: "before"}}
	}
	if a.number == 4 && a.version == 3 {
		web := spec.Services["web"]
		web.Routes = []api.Route{{Host: "disputed.test", Port: 80}}
		spec.Services["web"] = web
	}
	return spec
}

// program is what an instance does when it is started.
func (w *world) program(spec runtime.Spec) memruntime.Program {
	p := memruntime.Program{Ends: spec.Job}
	if w.dice.chance(w.weather().refuses, "refuses "+spec.ID) {
		p.Refuse = "exec format error"
	}
	if w.dice.chance(w.weather().crashes, "crashes "+spec.ID) {
		m := w.machineOf(spec.ID)
		time.AfterFunc(w.dice.between(0, time.Minute, "crash "+spec.ID), func() {
			if m != nil && !w.calm.Load() {
				m.runtime.End(spec.ID, 1)
				w.note("%s crashes on %s", spec.ID, m.name)
			}
		})
	}
	return p
}

// probe answers an instance's readiness probe.
func (w *world) probe(spec runtime.Spec, _ runtime.Command) (int, error) {
	if w.dice.chance(w.weather().neverReady, "never ready "+spec.ID) {
		return 1, nil
	}
	return 0, nil
}
