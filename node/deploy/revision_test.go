package deploy

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/runtime"
)

func sample() release {
	return release{
		spec: api.Spec{
			Namespace: "shop",
			Services: map[string]api.Service{"web": {
				Image: "web:v1", Digest: "sha256:1",
				Process: api.Process{Command: []string{"serve"}, SecretEnv: map[string]string{"KEY": "key"}},
				Files:   []api.File{{Secret: "key", Target: "/key"}, {Config: "text", Target: "/text"}},
			}},
			Configs: map[string]api.Config{"text": {Content: []byte("one")}, "unused": {Content: []byte("one")}},
		},
		secrets: map[string]api.SealedSecret{"key": {Sealed: []byte("a"), Fingerprint: "1"}, "unused": {Fingerprint: "1"}},
	}
}

func TestRevision(t *testing.T) {
	base := sample()
	was := base.revision("web")
	service := func(change func(*api.Service)) func(*release) {
		return func(r *release) {
			s := r.spec.Services["web"]
			change(&s)
			r.spec.Services["web"] = s
		}
	}
	for name, c := range map[string]struct {
		change func(*release)
		moves  bool
	}{
		"digest":      {service(func(s *api.Service) { s.Digest = "sha256:2" }), true},
		"command":     {service(func(s *api.Service) { s.Process.Command = []string{"x"} }), true},
		"env":         {service(func(s *api.Service) { s.Process.Env = map[string]string{"A": "b"} }), true},
		"file":        {service(func(s *api.Service) { s.Files[0].Target = "/other" }), true},
		"file mode":   {service(func(s *api.Service) { s.Files[1].Mode = 0o600 }), true},
		"tmpfs":       {service(func(s *api.Service) { s.Tmpfs = []api.Tmpfs{{Target: "/tmp"}} }), true},
		"mounts":      {service(func(s *api.Service) { s.Mounts = []api.Mount{{Volume: "data", Target: "/data"}} }), true},
		"resources":   {service(func(s *api.Service) { s.Resources.MemoryBytes = 1 }), true},
		"restart":     {service(func(s *api.Service) { s.Restart.Policy = "no" }), true},
		"security":    {service(func(s *api.Service) { s.Security.ReadOnly = true }), true},
		"config text": {func(r *release) { r.spec.Configs["text"] = api.Config{Content: []byte("two")} }, true},
		"secret":      {func(r *release) { r.secrets["key"] = api.SealedSecret{Sealed: []byte("a"), Fingerprint: "2"} }, true},
		"restarted":   {func(r *release) { r.restarts = map[string]int{"web": 1} }, true},

		"image tag":    {service(func(s *api.Service) { s.Image = "web:latest" }), false},
		"routes":       {service(func(s *api.Service) { s.Routes = []api.Route{{Host: "a", Port: 1}} }), false},
		"ports":        {service(func(s *api.Service) { s.Ports = []api.Port{{Published: 1, Target: 1}} }), false},
		"probe":        {service(func(s *api.Service) { s.Ready = &api.Probe{Exec: []string{"x"}} }), false},
		"placement":    {service(func(s *api.Service) { s.Placement.Replicas = 5 }), false},
		"update":       {service(func(s *api.Service) { s.Update.Order = "stop-first" }), false},
		"labels":       {service(func(s *api.Service) { s.Labels = map[string]string{"a": "b"} }), false},
		"depends":      {service(func(s *api.Service) { s.DependsOn = map[string]api.Condition{"x": api.Ready} }), false},
		"sealed anew":  {func(r *release) { r.secrets["key"] = api.SealedSecret{Sealed: []byte("b"), Fingerprint: "1"} }, false},
		"other config": {func(r *release) { r.spec.Configs["unused"] = api.Config{Content: []byte("two")} }, false},
		"volume size":  {func(r *release) { r.spec.Volumes = map[string]api.Volume{"data": {SizeBytes: 1}} }, false},
		"other secret": {func(r *release) { r.secrets["unused"] = api.SealedSecret{Fingerprint: "2"} }, false},
		"other service": {func(r *release) {
			r.spec.Services["db"] = api.Service{Digest: "x"}
			r.restarts = map[string]int{"db": 4}
		}, false},
	} {
		r := sample()
		c.change(&r)
		if moved := r.revision("web") != was; moved != c.moves {
			t.Errorf("%s: the revision moves %t, want %t", name, moved, c.moves)
		}
	}
}

// TestInstanceHoldsNoPlainSecret, and equal releases make equal instances but for the sealed bytes.
func TestInstance(t *testing.T) {
	spec := sample().instance("id", "web-0", "web", 7)
	if spec.Files[0].Mode != 0o400 || spec.Files[1].Mode != 0o444 || string(spec.Files[1].Plain) != "one" || spec.Files[0].Plain != nil {
		t.Errorf("files %+v", spec.Files)
	}
	if spec.SecretEnv["KEY"].Fingerprint != "1" || spec.NamespaceID != 7 || spec.Slot != "web-0" {
		t.Errorf("got %+v", spec)
	}
	resealed := sample()
	resealed.secrets["key"] = api.SealedSecret{Sealed: []byte("b"), Fingerprint: "1"}
	a, errA := runtime.Identity(spec, runtime.Image{}, runtime.Addresses{})
	b, errB := runtime.Identity(resealed.instance("id", "web-0", "web", 7), runtime.Image{}, runtime.Addresses{})
	if errA != nil || errB != nil || a != b {
		t.Errorf("identities %s %s (%v %v)", a, b, errA, errB)
	}
	if _, err := json.Marshal(spec); err != nil {
		t.Error(err)
	}
}

func TestInstanceID(t *testing.T) {
	id := instanceID("op1", "shop", "web-0")
	if id != instanceID("op1", "shop", "web-0") {
		t.Error("not the same at each call")
	}
	for _, other := range []string{instanceID("op2", "shop", "web-0"), instanceID("op1", "shop", "web-1"), instanceID("op1", "shop-web", "0")} {
		if other == id {
			t.Errorf("%s twice", id)
		}
	}
	long := instanceID("op1", strings.Repeat("n", 24), strings.Repeat("s", 24)+"-"+strings.Repeat("m", 24))
	if err := runtime.CheckID(long); err != nil {
		t.Error(err)
	}
}

func TestPinned(t *testing.T) {
	for reference, want := range map[string]string{
		"web": "web@sha256:2", "web:v1": "web:v1@sha256:2", "r.test:5000/a/web:v1@sha256:1": "r.test:5000/a/web:v1@sha256:2",
	} {
		if got := pinned(reference, "sha256:2"); got != want {
			t.Errorf("%s: %s, want %s", reference, got, want)
		}
	}
}
