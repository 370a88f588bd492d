package gateway

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"time"
)

// Table is everything the gateway serves. It is a value: after it has been given to Apply,
// neither side changes it. Its JSON form is what the main keeps on disk as the last good view.
type Table struct {
	Namespaces   []Namespace       `json:"namespaces"`
	Certificates []CertificateFile `json:"certificates,omitempty"`
}

// Namespace is the routing view of one namespace, which flips as a whole.
type Namespace struct {
	Name     string      `json:"name"`
	Sequence uint64      `json:"sequence"` // of the routing event this view comes from
	HTTP     []HTTPRoute `json:"http,omitempty"`
	TCP      []TCPRoute  `json:"tcp,omitempty"`
}

// Protocol is what an upstream of an HTTP route speaks.
type Protocol string

// The protocols of upstreams. The zero value means HTTP1.
const (
	HTTP1 Protocol = "http"
	H2C   Protocol = "h2c" // HTTP/2 without TLS and with prior knowledge, as gRPC servers speak
)

// HTTPRoute sends requests for a hostname and a path prefix to upstreams.
type HTTPRoute struct {
	// Host is a DNS name in lower case without trailing dot, or "*." before one, which stands
	// for exactly one label. An exact name wins over a wildcard, also where no path fits.
	Host string `json:"host"`
	// Path is a prefix that ends on a segment border: "/api" fits /api and /api/x, not /apis.
	// "" and "/" fit everything. The longest that fits wins.
	Path string `json:"path,omitempty"`
	// Service is for messages; it has no say in routing.
	Service string `json:"service"`
	// Protocol defaults to HTTP1.
	Protocol Protocol `json:"protocol,omitempty"`
	// RedirectHTTPS answers plain HTTP with 308 to https.
	RedirectHTTPS bool `json:"redirectHTTPS,omitempty"`
	// StripPrefix removes Path from what the upstream sees.
	StripPrefix bool `json:"stripPrefix,omitempty"`
	// Hold sends nothing new to the upstreams: requests wait for a table without it, for Limits.Hold.
	Hold bool `json:"hold,omitempty"`
	// HoldFor ends Hold without another table, that long after the namespace's sequence was first served; 0 is never.
	HoldFor   time.Duration `json:"holdFor,omitempty"`
	Upstreams []Upstream    `json:"upstreams"`
}

// ProxyProtocol is the version of the PROXY header that a TCP route sends to its upstreams.
type ProxyProtocol int

// The values of ProxyProtocol.
const (
	NoProxyHeader ProxyProtocol = 0
	ProxyV1       ProxyProtocol = 1 // text
	ProxyV2       ProxyProtocol = 2 // binary
)

// TCPRoute passes connections to a port of the machine through to upstreams.
type TCPRoute struct {
	Port          uint16        `json:"port"`
	Service       string        `json:"service"`
	ProxyProtocol ProxyProtocol `json:"proxyProtocol,omitempty"`
	// Hold and HoldFor are like HTTPRoute's, for connections.
	Hold      bool          `json:"hold,omitempty"`
	HoldFor   time.Duration `json:"holdFor,omitempty"`
	Upstreams []Upstream    `json:"upstreams"`
}

// Upstream is one instance that can be asked.
type Upstream struct {
	ID      string         `json:"id"` // instance id; with Address it identifies the upstream across tables
	Address netip.AddrPort `json:"address"`
	// Draining upstreams get nothing new; what is in flight goes on.
	Draining bool `json:"draining,omitempty"`
}

// CertificateFile names a PEM chain and its key. Which hostnames it serves is read from the
// certificate. The main loads the files (LoadCertificates) whenever it applies a table.
type CertificateFile struct {
	Cert string `json:"cert"`
	Key  string `json:"key"`
}

// With returns the table with the view of one namespace put in or replaced; t is unchanged.
func (t Table) With(n Namespace) Table {
	t = t.Without(n.Name)
	t.Namespaces = append(t.Namespaces, n)
	slices.SortFunc(t.Namespaces, func(a, b Namespace) int {
		if a.Name < b.Name {
			return -1
		}
		return 1
	})
	return t
}

// Without returns the table without a namespace; t is unchanged.
func (t Table) Without(namespace string) Table {
	t.Namespaces = slices.DeleteFunc(slices.Clone(t.Namespaces), func(n Namespace) bool { return n.Name == namespace })
	return t
}

// ReadTable reads a table from a JSON file. Unknown keys are refused: a table written by a
// newer program may mean something we would get wrong. It does not validate; Apply does.
func ReadTable(path string) (Table, error) {
	f, err := os.Open(path)
	if err != nil {
		return Table{}, err
	}
	defer f.Close()
	d := json.NewDecoder(f)
	d.DisallowUnknownFields()
	var t Table
	if err := d.Decode(&t); err != nil {
		return Table{}, fmt.Errorf("gateway: table %s: %w", path, err)
	}
	return t, nil
}
