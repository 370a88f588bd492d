package mesh

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/ployz/ployz/datapath/durable"
	"github.com/ployz/ployz/node/api"
)

// StateFile is where a state folder keeps what boot needs.
func StateFile(folder string) string { return filepath.Join(folder, "net", "mesh.json") }

// State is all that boot needs to put the mesh back without ployzd.
type State struct {
	// Interface is the device's name; MTU in bytes.
	Interface string `json:"interface"`
	MTU       int    `json:"mtu"`
	// ListenPort is the port of the underlay that peers send to.
	ListenPort uint16 `json:"listenPort"`
	// KeyFile is the path of the private key.
	KeyFile string `json:"keyFile"`
	// Source4 and Source6 are the machine's own addresses on the bridge.
	Source4 netip.Addr `json:"source4"`
	Source6 netip.Addr `json:"source6"`
	// Cluster are the prefixes of all machines' subnets.
	Cluster []netip.Prefix `json:"cluster"`
	// Peers are the other machines.
	Peers []Peer `json:"peers"`
}

// Wanted is what the state asks of the device.
func (s State) Wanted(private PrivateKey) Wanted {
	return Wanted{Private: private, ListenPort: s.ListenPort, Peers: s.Peers}
}

// Routes are the subnets that lie behind the device.
func (s State) Routes() []netip.Prefix {
	var out []netip.Prefix
	for _, p := range s.Peers {
		out = append(out, p.AllowedIPs...)
	}
	return out
}

// Validate returns a mesh.invalid for the first thing that cannot be: two peers with one key or one subnet would take
// it from each other for ever.
func (s State) Validate() error {
	switch {
	case s.Interface == "" || len(s.Interface) > 15:
		return invalid("interface", "%q is not an interface name of at most 15 bytes", s.Interface)
	case s.ListenPort == 0:
		return invalid("listenPort", "peers must know the port")
	case !filepath.IsAbs(s.KeyFile):
		return invalid("keyFile", "%q is not an absolute path", s.KeyFile)
	}
	if _, left := Sift(Peer{}, s.Peers); len(left) > 0 {
		return left[0]
	}
	return nil
}

// Sift leaves out the peers that cannot be, each with its mesh.invalid, so that one of them does not keep a machine from
// knowing the others. Of two that have the same key or subnet the first stays; nobody may have the machine's own.
func Sift(own Peer, peers []Peer) (sound []Peer, left []*api.Error) {
	keys, subnets := map[Key]string{}, allocation{}
	if !own.PublicKey.IsZero() {
		keys[own.PublicKey] = own.Machine
	}
	subnets.take(own)
	for _, p := range peers {
		err := p.validate()
		if other, taken := keys[p.PublicKey]; err == nil && (taken || p.PublicKey.IsZero()) {
			err = invalid(p.Machine, "its key is zero or that of another machine: %q", other)
		}
		if err == nil {
			err = subnets.free(p)
		}
		if err != nil {
			left = append(left, err)
			continue
		}
		keys[p.PublicKey] = p.Machine
		subnets.take(p)
		sound = append(sound, p)
	}
	return sound, left
}

func (p Peer) validate() *api.Error {
	for _, a := range p.AllowedIPs {
		if !a.IsValid() || a != a.Masked() || a.Bits() == 0 {
			return invalid(p.Machine, "%s is not a machine's subnet", a)
		}
	}
	if p.Keepalive < 0 || p.Keepalive%time.Second != 0 {
		return invalid(p.Machine, "a keepalive of %s is not in whole seconds", p.Keepalive)
	}
	return nil
}

// allocation is who has which subnet, in the order of their addresses: what overlaps one is beside it.
type allocation []allocated

type allocated struct {
	netip.Prefix
	machine string
}

func (a allocation) at(p netip.Prefix) int {
	at, _ := slices.BinarySearchFunc(a, p, func(x allocated, p netip.Prefix) int {
		return cmp.Or(x.Addr().Compare(p.Addr()), cmp.Compare(x.Bits(), p.Bits()))
	})
	return at
}

// free refuses a peer one of whose subnets is taken. None of those that were taken overlap each other.
func (a allocation) free(p Peer) *api.Error {
	for _, prefix := range p.AllowedIPs {
		at := a.at(prefix)
		for _, other := range a[max(at-1, 0):min(at+1, len(a))] {
			if other.Overlaps(prefix) {
				return invalid(p.Machine, "its subnet %s is also that of %q (%s)", prefix, other.machine, other.Prefix)
			}
		}
	}
	return nil
}

func (a *allocation) take(p Peer) {
	for _, prefix := range p.AllowedIPs {
		*a = slices.Insert(*a, a.at(prefix), allocated{prefix, p.Machine})
	}
}

func invalid(subject, format string, args ...any) *api.Error {
	return api.Errorf(api.CodeMeshInvalid, format, args...).About(subject)
}

// LoadState reads mesh.json, strictly: one from a newer version must not be half understood. Errors: fs.ErrNotExist;
// mesh.state-damaged, mesh.invalid.
func LoadState(path string) (State, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return State{}, err
	}
	var s State
	if err == nil {
		d := json.NewDecoder(bytes.NewReader(text))
		d.DisallowUnknownFields()
		err = d.Decode(&s)
	}
	if err != nil {
		return State{}, api.Errorf(api.CodeMeshState, "the mesh's state cannot be read: %w", err).About(path)
	}
	return s, s.Validate()
}

// Save writes mesh.json (mode 0600, its folder as needed), so that it is all there after a power cut. Errors: mesh.invalid,
// internal.error.
func (s State) Save(path string) error {
	if err := s.Validate(); err != nil {
		return err
	}
	text, err := json.MarshalIndent(s, "", "  ")
	if err == nil {
		err = os.MkdirAll(filepath.Dir(path), 0o700)
	}
	if err == nil {
		err = durable.WriteFile(path, append(text, '\n'), 0o600)
	}
	if err != nil {
		return api.Errorf(api.CodeInternal, "writing the mesh's state: %w", fmt.Errorf("%s: %w", path, err))
	}
	return nil
}
