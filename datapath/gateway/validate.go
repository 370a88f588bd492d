package gateway

import (
	"fmt"
	"net/url"
	"strings"
)

// TableError says which entry makes a table unacceptable.
type TableError struct {
	Namespace string // that the entry belongs to; the one to be kept at its last good view
	Entry     string // e.g. `http route app.example.com/api (service web)`
	Reason    string
}

func (e *TableError) Error() string {
	return fmt.Sprintf("gateway: namespace %s: %s: %s", e.Namespace, e.Entry, e.Reason)
}

// Validate returns nil or the first bad entry as *TableError.
func (t Table) Validate() error {
	c := &checker{hosts: map[string]string{}, routes: map[string]string{}, ports: map[uint16]string{}, names: map[string]bool{}}
	for _, n := range t.Namespaces {
		if err := c.namespace(n); err != nil {
			return err
		}
	}
	return nil
}

// checker remembers who owns what while it walks the table; values are namespace names.
type checker struct {
	hosts  map[string]string
	routes map[string]string // host + path
	ports  map[uint16]string
	names  map[string]bool
}

func (c *checker) namespace(n Namespace) error {
	if n.Name == "" {
		return &TableError{`""`, "namespace", "has no name"}
	}
	if c.names[n.Name] {
		return &TableError{n.Name, "namespace", "is there twice"}
	}
	c.names[n.Name] = true
	for _, r := range n.HTTP {
		if why := c.http(n.Name, r); why != "" {
			return &TableError{n.Name, fmt.Sprintf("http route %s%s (service %s)", r.Host, r.Path, r.Service), why}
		}
	}
	for _, r := range n.TCP {
		if why := c.tcp(n.Name, r); why != "" {
			return &TableError{n.Name, fmt.Sprintf("tcp route %d (service %s)", r.Port, r.Service), why}
		}
	}
	return nil
}

func (c *checker) http(namespace string, r HTTPRoute) string {
	if why := badHost(r.Host); why != "" {
		return why
	}
	if why := badPath(r.Path); why != "" {
		return why
	}
	if owner, taken := c.hosts[r.Host]; taken && owner != namespace {
		return fmt.Sprintf("hostname %s belongs to namespace %s", r.Host, owner)
	}
	c.hosts[r.Host] = namespace
	key := r.Host + strings.TrimRight(r.Path, "/")
	if _, taken := c.routes[key]; taken {
		return "hostname and path are there twice"
	}
	c.routes[key] = namespace
	switch r.Protocol {
	case "", HTTP1, H2C:
	default:
		return fmt.Sprintf("protocol %q is neither http nor h2c", r.Protocol)
	}
	return badService(r.Service, r.Upstreams)
}

func (c *checker) tcp(namespace string, r TCPRoute) string {
	if r.Port == 0 {
		return "port 0"
	}
	if owner, taken := c.ports[r.Port]; taken {
		return fmt.Sprintf("port %d is taken by namespace %s", r.Port, owner)
	}
	c.ports[r.Port] = namespace
	if r.ProxyProtocol < NoProxyHeader || r.ProxyProtocol > ProxyV2 {
		return fmt.Sprintf("PROXY protocol version %d is neither 0 (none), 1 nor 2", r.ProxyProtocol)
	}
	return badService(r.Service, r.Upstreams)
}

func badService(service string, upstreams []Upstream) string {
	if service == "" {
		return "no service name"
	}
	seen := map[upstreamKey]bool{}
	for _, u := range upstreams {
		k := u.key()
		switch {
		case u.ID == "":
			return fmt.Sprintf("upstream %s has no id", u.Address)
		case !u.Address.IsValid() || u.Address.Port() == 0 || u.Address.Addr().IsUnspecified():
			return fmt.Sprintf("upstream %s has the unusable address %q", u.ID, u.Address)
		case seen[k]:
			return fmt.Sprintf("upstream %s is there twice", u.ID)
		}
		seen[k] = true
	}
	return ""
}

func badHost(host string) string {
	name := strings.TrimPrefix(host, "*.")
	if name == "" || len(name) > 253 {
		return fmt.Sprintf("hostname %q is empty or too long", host)
	}
	for label := range strings.SplitSeq(name, ".") {
		if !goodLabel(label) {
			return fmt.Sprintf("hostname %q is no DNS name in lower case", host)
		}
	}
	return ""
}

func goodLabel(l string) bool {
	if l == "" || len(l) > 63 || l[0] == '-' || l[len(l)-1] == '-' {
		return false
	}
	for i := range len(l) {
		c := l[i]
		if !(c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-' || c == '_') {
			return false
		}
	}
	return true
}

// badPath refuses prefixes that no request could ever fit, or that could be read two ways.
func badPath(path string) string {
	if path == "" || path == "/" {
		return ""
	}
	if path[0] != '/' || strings.Contains(path, "//") {
		return fmt.Sprintf("path %q must start with one slash and have no empty segment", path)
	}
	if dotted(path) || strings.ContainsAny(path, "%?#") || (&url.URL{Path: path}).EscapedPath() != path {
		return fmt.Sprintf("path %q must be plain: no . or .. segments, no %%, ? or #, nothing that a URL escapes", path)
	}
	return ""
}
