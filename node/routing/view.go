package routing

import (
	"encoding/json"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/ployz/ployz/node/api"
)

// viewSchema is the version of View's JSON. A consumer rejects one that it does not know.
const viewSchema = 1

// View is the whole routing truth of one namespace after one commit: the routing event.
type View struct {
	Schema      int    `json:"schema"`
	Operation   string `json:"operation"`
	Commit      string `json:"commit"`
	Namespace   string `json:"namespace"`
	NamespaceID uint32 `json:"namespaceID"`
	// Services by name, with every instance that should be found by it.
	Services map[string]Service `json:"services"`
}

// Service is one name and what serves it.
type Service struct {
	Instances []Instance  `json:"instances"`
	Routes    []api.Route `json:"routes,omitempty"`
	// Ports are what SRV answers: the target ports of routes and published ports.
	Ports []Port `json:"ports,omitempty"`
	// Exports lists the namespaces that may find the service; "*" is all.
	Exports []string `json:"exports,omitempty"`
	// Hold asks gateways to send the instances nothing new and to let requests and connections wait for the next event:
	// the instances stop, and others begin. A gateway that does not know it answers as if they were gone.
	Hold bool `json:"hold,omitempty"`
	// HoldFor is the most that a gateway holds after it applied this event; 0 is until the next one. It is what ends a
	// hold whose operation died.
	HoldFor api.Duration `json:"holdFor,omitempty"`
}

// Port is one port that a service answers on.
type Port struct {
	// Name is "http", "tcp" or the port's own number, for SRV.
	Name     string `json:"name"`
	Number   uint16 `json:"number"`
	Protocol string `json:"protocol"`
}

// Instance is one upstream.
type Instance struct {
	ID      string     `json:"id"`
	Slot    string     `json:"slot"`
	Machine string     `json:"machine"`
	V4      netip.Addr `json:"v4"`
	V6      netip.Addr `json:"v6"`
}

// Encode renders the event's value.
func (v View) Encode() ([]byte, error) {
	v.Schema = viewSchema
	text, err := json.Marshal(v)
	if err != nil {
		return nil, api.Errorf(api.CodeInternal, "encoding the routing view of %s: %w", v.Namespace, err)
	}
	return text, nil
}

// Decode reads and checks an event. Errors: routing.bad-event, naming the first thing wrong.
func Decode(namespace string, value []byte) (View, error) {
	var v View
	if err := json.Unmarshal(value, &v); err != nil {
		return View{}, bad(namespace, "is not JSON: %v", err)
	}
	if err := v.check(namespace); err != nil {
		return View{}, err
	}
	return v, nil
}

func (v View) check(namespace string) error {
	if v.Schema != viewSchema {
		return bad(namespace, "has schema %d; this version knows %d", v.Schema, viewSchema)
	}
	if v.Namespace != namespace {
		return bad(namespace, "names namespace %q", v.Namespace)
	}
	for _, name := range slices.Sorted(maps.Keys(v.Services)) {
		if err := v.Services[name].check(namespace, name); err != nil {
			return err
		}
	}
	return nil
}

func (s Service) check(namespace, name string) error {
	for _, i := range s.Instances {
		if !i.V4.Is4() || !i.V6.Is6() {
			return bad(namespace, "instance %s of %s has addresses %v and %v", i.ID, name, i.V4, i.V6)
		}
	}
	for _, r := range s.Routes {
		if r.Port == 0 || (r.Host == "") == (r.TCP == 0) {
			return bad(namespace, "a route of %s needs a port and either a host or a TCP port", name)
		}
		if r.Path != "" && !strings.HasPrefix(r.Path, "/") {
			return bad(namespace, "route path %q of %s does not begin with /", r.Path, name)
		}
	}
	return nil
}

func bad(namespace, format string, args ...any) error {
	return api.Errorf(api.CodeRoutingBadEvent, "the routing event "+format, args...).About(namespace).
		WithHint("its last good view goes on being served; deploy the namespace again to replace it")
}
