package gateway

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"golang.org/x/net/http2"
)

// certStore finds certificates by server name; immutable.
type certStore struct {
	byName map[string]*tls.Certificate
	first  *tls.Certificate // for clients without SNI
}

// LoadCertificates reads the files of a table. Errors name the file pair.
func LoadCertificates(files []CertificateFile) ([]tls.Certificate, error) {
	var out []tls.Certificate
	for _, f := range files {
		c, err := tls.LoadX509KeyPair(f.Cert, f.Key)
		if err != nil {
			return nil, fmt.Errorf("gateway: certificate %s with key %s: %w", f.Cert, f.Key, err)
		}
		out = append(out, c)
	}
	return out, nil
}

// SetCertificates serves these from the next handshake on, and none of those set before. Where
// two fit a name, the one that is valid longer wins.
func (s *Server) SetCertificates(certs []tls.Certificate) {
	store := &certStore{byName: map[string]*tls.Certificate{}}
	for i := range certs {
		c := &certs[i]
		if c.Leaf == nil {
			continue // not made by the tls package's loaders
		}
		if store.first == nil {
			store.first = c
		}
		for _, name := range c.Leaf.DNSNames {
			name = strings.ToLower(name)
			if old := store.byName[name]; old == nil || old.Leaf.NotAfter.Before(c.Leaf.NotAfter) {
				store.byName[name] = c
			}
		}
	}
	s.certs.Store(store)
}

// errNoCertificate makes the client see the alert unrecognized_name.
var errNoCertificate = errors.New("gateway: no certificate for this name")

func (s *Server) certificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	store := s.certs.Load()
	name := strings.ToLower(strings.TrimSuffix(hello.ServerName, "."))
	if c := store.byName[name]; c != nil {
		return c, nil
	}
	if _, parent, ok := strings.Cut(name, "."); ok {
		if c := store.byName["*."+parent]; c != nil {
			return c, nil
		}
	}
	if name == "" && store.first != nil {
		return store.first, nil
	}
	return nil, errNoCertificate
}

// newTLSConfig makes the one configuration of all listeners, so that session tickets hold across
// connections.
func newTLSConfig(get func(*tls.ClientHelloInfo) (*tls.Certificate, error)) *tls.Config {
	return &tls.Config{
		MinVersion:     tls.VersionTLS12,
		NextProtos:     []string{http2.NextProtoTLS, "http/1.1"},
		GetCertificate: get,
	}
}

// peekPreface looks at the first bytes of a plain connection for HTTP/2 with prior knowledge.
// The connection it returns gives those bytes again.
func (s *Server) peekPreface(c *tracked) (net.Conn, bool) {
	c.SetReadDeadline(time.Now().Add(s.Limits.Header))
	defer c.SetReadDeadline(time.Time{})
	got := make([]byte, 0, len(http2.ClientPreface))
	for len(got) < len(http2.ClientPreface) && strings.HasPrefix(http2.ClientPreface, string(got)) {
		n, err := c.Read(got[len(got):cap(got)])
		got = got[:len(got)+n]
		if err != nil {
			break // whoever reads next meets it again
		}
	}
	return &prefixed{Conn: c, prefix: got}, string(got) == http2.ClientPreface
}

// prefixed is a connection with bytes put back before it.
type prefixed struct {
	net.Conn
	prefix []byte
}

func (c *prefixed) Read(p []byte) (int, error) {
	if len(c.prefix) > 0 {
		n := copy(p, c.prefix)
		c.prefix = c.prefix[n:]
		return n, nil
	}
	return c.Conn.Read(p)
}
