package memory

import (
	"context"
	"slices"
	"testing"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/services"
	"github.com/ployz/ployz/node/services/servicestest"
	"github.com/ployz/ployz/units"
)

func TestConformance(t *testing.T) {
	servicestest.Run(t, func(t *testing.T) servicestest.Fixture {
		s := New()
		return servicestest.Fixture{Supervisor: s, PutFile: func(_ *testing.T, name, text string) { s.PutFile(name, text) }}
	})
}

func serving(t *testing.T, v4 string) (socket, service services.Wanted) {
	t.Helper()
	g, err := units.Gateway{Args: []string{"--test", v4}}.Render()
	if err != nil {
		t.Fatal(err)
	}
	return services.Wanted{Unit: units.Stamp(units.GatewaySocket, "[Unit]\n[Socket]\nListenStream="+v4+"\n"), SocketOf: g.Service},
		services.Wanted{Unit: g.Service, HandOver: true}
}

func TestSocketsAndTheirService(t *testing.T) {
	s := New()
	socket, service := serving(t, "10.0.0.1:80")
	for _, w := range []services.Wanted{socket, service} {
		if r := services.Ensure(t.Context(), s, w, nil); r.Act != services.Create || r.Err != nil || r.Deferred {
			t.Fatalf("first: %+v", r)
		}
	}
	s.Calls()

	extra := services.Wanted{Unit: units.Stamp("ployz-gateway-tcp-25.socket", "[Unit]\n[Socket]\n"), SocketOf: service.Unit}
	if r := services.Ensure(t.Context(), s, extra, nil); !r.Deferred || r.Err != nil {
		t.Fatalf("a new socket under a running service: %+v", r)
	}
	if got := s.Calls(); slices.Contains(got, "start "+extra.Unit.Name) || slices.Contains(got, "restart "+units.GatewayService) {
		t.Fatalf("calls %v", got)
	}

	moved, _ := serving(t, "10.0.0.2:80")
	if r := services.Ensure(t.Context(), s, moved, nil); r.Act != services.Recreate || r.Err != nil {
		t.Fatalf("a moved socket: %+v", r)
	}
	want := []string{"stop " + units.GatewayService, "restart " + units.GatewaySocket, "start " + units.GatewayService}
	if got := s.Calls(); !slices.Equal(got[len(got)-3:], want) {
		t.Fatalf("calls %v, want last %v", got, want)
	}
}

// looking counts the looks at each unit.
type looking struct {
	*Supervisor
	at map[string]int
}

func (l looking) Observe(ctx context.Context, name string) (units.Observation, error) {
	l.at[name]++
	return l.Supervisor.Observe(ctx, name)
}

// TestStartNew: what was nowhere is looked at once, but for a service, of which each of its sockets must know whether it runs.
func TestStartNew(t *testing.T) {
	s := looking{New(), map[string]int{}}
	socket, service := serving(t, "10.0.0.1:80")
	other := services.Wanted{Unit: units.Stamp("ployz-net.service", "[Unit]\n[Service]\nExecStart=/bin/true\n")}
	wanted := []services.Wanted{other, socket, service}
	nowhere, err := services.InstallNew(t.Context(), s, wanted...)
	if err != nil || !slices.Equal(nowhere, []string{other.Unit.Name, socket.Unit.Name, service.Unit.Name}) {
		t.Fatalf("nowhere: %v %v", nowhere, err)
	}
	for _, w := range wanted {
		if err := services.StartNew(t.Context(), s, w); err != nil {
			t.Fatal(err)
		}
	}
	if s.at[other.Unit.Name] != 1 || s.at[socket.Unit.Name] != 1 || s.at[service.Unit.Name] != 2 {
		t.Errorf("looked at: %v", s.at)
	}
	for _, w := range wanted {
		if r := services.Ensure(t.Context(), s, w, nil); r.Act != services.Adopt {
			t.Errorf("%s: %+v", w.Unit.Name, r.Decision)
		}
	}
	if nowhere, err := services.InstallNew(t.Context(), s, wanted...); err != nil || len(nowhere) != 0 {
		t.Errorf("again: %v %v", nowhere, err)
	}
	s.PutFile(service.Unit.Name, "") // somebody deleted the file of one that runs
	if nowhere, err := services.InstallNew(t.Context(), s, service); err != nil || len(nowhere) != 0 {
		t.Errorf("one that runs is nowhere: %v %v", nowhere, err)
	}
}

func TestReplaceHandsOver(t *testing.T) {
	s := New()
	_, service := serving(t, "")
	services.Ensure(t.Context(), s, service, nil)
	s.ReplaceProgram(service.Unit.Name)
	before, _ := s.Observe(t.Context(), service.Unit.Name)
	r := services.Ensure(t.Context(), s, service, nil)
	if r.Act != services.Replace || r.Err != nil || r.After.ExecutableStale || r.After.MainPID != before.MainPID {
		t.Fatalf("%+v", r)
	}
}

func TestSupervisorDown(t *testing.T) {
	s := New()
	_, service := serving(t, "")
	s.SetDown(true)
	if r := services.Ensure(t.Context(), s, service, nil); r.Act != services.Leave || r.Err != nil {
		t.Fatalf("%+v", r)
	}
	if _, err := s.Observe(t.Context(), "x"); api.CodeOf(err) != api.CodeSupervisorDown {
		t.Fatal(err)
	}
}
