package machine

import (
	"crypto/rand"
	"encoding/base32"
	"encoding/json"
	"errors"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/ployz/ployz/datapath/durable"
	"github.com/ployz/ployz/node/api"
)

// Identity is who this machine is, on its own disk, so that it serves without the store. The
// gateway, the resolver and ployz-net read it too; a field, once there, keeps its name.
type Identity struct {
	ID      string `json:"id"`
	Name    string `json:"name"`
	Cluster string `json:"cluster"`
	// ClusterName is for people; Cluster is the id.
	ClusterName string       `json:"clusterName"`
	Generation  uint64       `json:"generation"`
	Overlay     netip.Addr   `json:"overlay"`
	Subnet4     netip.Prefix `json:"subnet4"`
	Subnet6     netip.Prefix `json:"subnet6"`
	CIDR        netip.Prefix `json:"clusterCIDR"`
	Prefix      netip.Prefix `json:"clusterPrefix"`
	// Incarnation numbers this machine's store cores; each promotion to voter takes a new one.
	Incarnation int `json:"incarnation"`
	// Voters are the overlay addresses of the machines with a store core.
	Voters []netip.Addr `json:"voters"`
	// Member says that the membership is committed; before that an init was begun.
	Member bool `json:"member"`
}

// Votes reports whether the machine has a seat in the store's core.
func (i Identity) Votes() bool { return slices.Contains(i.Voters, i.Overlay) }

// Gateway4 is the machine's own IPv4 address on the bridge.
func (i Identity) Gateway4() netip.Addr { return i.Subnet4.Masked().Addr().Next() }

// CoreName is the server name of the machine's store core.
func (i Identity) CoreName() string { return i.ID + "-" + itoa(i.Incarnation) }

// identityFile is the identity's name in the state folder.
const identityFile = "machine.json"

// LoadIdentity reads the identity of the machine whose state folder this is. Errors:
// machine.not-initialised when there is none.
func LoadIdentity(state string) (Identity, error) {
	text, err := os.ReadFile(filepath.Join(state, identityFile))
	if errors.Is(err, fs.ErrNotExist) {
		return Identity{}, NotInitialised()
	}
	if err != nil {
		return Identity{}, api.Errorf(api.CodeInternal, "reading the machine's identity: %w", err)
	}
	var i Identity
	if err := json.Unmarshal(text, &i); err != nil {
		return Identity{}, api.Errorf(api.CodeMachineDamaged, "%s is damaged: %w", identityFile, err).About(state)
	}
	return i, nil
}

// GenerationOf is the store's generation that the machine whose state folder this is is in. Errors as LoadIdentity.
func GenerationOf(state string) (uint64, error) {
	self, err := LoadIdentity(state)
	return self.Generation, err
}

// NotInitialised is the answer of a machine that belongs to no cluster.
func NotInitialised() error {
	return api.Errorf(api.CodeNotInitialised, "this machine belongs to no cluster yet").
		WithHint("found one here: ployzctl init")
}

// Save writes the identity durably.
func (i Identity) Save(state string) error {
	text, err := json.MarshalIndent(i, "", "  ")
	if err != nil {
		return api.Errorf(api.CodeInternal, "encoding the machine's identity: %w", err)
	}
	if err := durable.WriteFile(filepath.Join(state, identityFile), append(text, '\n'), 0o644); err != nil {
		return api.Errorf(api.CodeInternal, "writing the machine's identity: %w", err)
	}
	return nil
}

// RemoveIdentity forgets who the machine is; safe when it is nobody.
func RemoveIdentity(state string) error {
	err := os.Remove(filepath.Join(state, identityFile))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return api.Errorf(api.CodeInternal, "removing the machine's identity: %w", err)
	}
	return nil
}

// firstMachine makes the identity of a cluster's first machine: random ids, the cluster's first
// subnet, a random ULA /48.
func firstMachine(request api.InitRequest, cidr netip.Prefix) Identity {
	prefix := ula()
	i := Identity{
		ID: randomID(6), Name: request.Name, Cluster: randomID(10), ClusterName: request.ClusterName, Generation: 1,
		CIDR: cidr, Prefix: prefix, Incarnation: 1,
		Subnet4: subnet4(cidr, firstNumber), Subnet6: subnet6(prefix, firstNumber),
	}
	i.Overlay = i.Subnet6.Addr().Next()
	i.Voters = []netip.Addr{i.Overlay}
	return i
}

// ula is a random unique local /48 (RFC 4193).
func ula() netip.Prefix {
	var a [16]byte
	a[0] = 0xfd
	rand.Read(a[1:6]) // never fails
	return netip.PrefixFrom(netip.AddrFrom16(a), 48)
}

func subnet6(prefix netip.Prefix, machine uint16) netip.Prefix {
	a := prefix.Addr().As16()
	a[6], a[7] = byte(machine>>8), byte(machine)
	return netip.PrefixFrom(netip.AddrFrom16(a), 64)
}

// firstNumber is the number of the first machine's subnets.
const firstNumber = 1

// subnet4 is the /24 with a number in the cluster's range.
func subnet4(cidr netip.Prefix, number uint16) netip.Prefix {
	a := cidr.Masked().Addr().As4()
	base := uint32(a[0])<<24 | uint32(a[1])<<16 | uint32(a[2])<<8
	base += uint32(number) << 8
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{byte(base >> 24), byte(base >> 16), byte(base >> 8), 0}), 24)
}

// lastNumber is the highest number that has a subnet in the cluster's range; the one above the last
// possible is kept for tokens' addresses.
func lastNumber(cidr netip.Prefix) uint16 {
	return uint16(min(1<<(24-cidr.Bits())-1, tokenNumber-1))
}

var idLetters = base32.NewEncoding("abcdefghijkmnpqrstuvwxyz23456789").WithPadding(base32.NoPadding)

func randomID(letters int) string {
	b := make([]byte, letters)
	rand.Read(b) // never fails
	return "m" + strings.ToLower(idLetters.EncodeToString(b))[:letters-1]
}
