package memory

import (
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
