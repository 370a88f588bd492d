package gateway

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"
)

// fixture is a Server on loopback sockets.
type fixture struct {
	*Server
	http, https string // addresses
	roots       *x509.CertPool
}

// serve starts a server; change may alter it before Start.
func serve(t testing.TB, change func(*Server)) *fixture {
	t.Helper()
	f := &fixture{Server: &Server{Log: slog.New(slog.DiscardHandler)}}
	if change != nil {
		change(f.Server)
	}
	if err := f.Start(); err != nil {
		t.Fatal(err)
	}
	plain, secure := loopback(t), loopback(t)
	f.http, f.https = plain.Addr().String(), secure.Addr().String()
	var cert tls.Certificate
	cert, f.roots = selfSigned(t, "app.example.com", "*.wild.example.com")
	f.SetCertificates([]tls.Certificate{cert})
	served := make(chan error, 1)
	go func() {
		served <- f.Serve(context.Background(), Listeners{HTTP: []net.Listener{plain}, HTTPS: []net.Listener{secure}})
	}()
	t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		f.Drain(ctx, DrainOptions{Succeeded: true})
		if err := <-served; err != nil {
			t.Error("Serve:", err)
		}
	})
	return f
}

func loopback(t testing.TB) net.Listener {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return ln
}

func selfSigned(t testing.TB, names ...string) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: names[0]}, DNSNames: names,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(leaf)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, pool
}

// origin starts an upstream and returns it as a table's entry.
func origin(t testing.TB, id string, h http.HandlerFunc) Upstream {
	t.Helper()
	s := httptest.NewUnstartedServer(h)
	s.Config.Protocols = new(http.Protocols)
	s.Config.Protocols.SetHTTP1(true)
	s.Config.Protocols.SetUnencryptedHTTP2(true)
	s.Start()
	t.Cleanup(s.Close)
	return Upstream{ID: id, Address: netip.MustParseAddrPort(s.Listener.Addr().String())}
}

// named answers with its name.
func named(t testing.TB, id string) Upstream {
	return origin(t, id, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, id) })
}

// nobody is an address that refuses connections.
func nobody(t testing.TB, id string) Upstream {
	ln := loopback(t)
	defer ln.Close()
	return Upstream{ID: id, Address: netip.MustParseAddrPort(ln.Addr().String())}
}

func oneRoute(r HTTPRoute) Table {
	if r.Host == "" {
		r.Host = "app.example.com"
	}
	r.Service = "web"
	return Table{Namespaces: []Namespace{{Name: "shop", Sequence: 1, HTTP: []HTTPRoute{r}}}}
}

func (f *fixture) apply(t testing.TB, table Table) {
	t.Helper()
	if err := f.Apply(table); err != nil {
		t.Fatal(err)
	}
}

// client speaks to the fixture whatever the host is; h2 only over https.
func (f *fixture) client(t testing.TB, h2 bool) *http.Client {
	tr := &http.Transport{
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			to := f.http
			if strings.HasSuffix(addr, ":443") {
				to = f.https
			}
			return new(net.Dialer).DialContext(ctx, network, to)
		},
		TLSClientConfig:   &tls.Config{RootCAs: f.roots},
		ForceAttemptHTTP2: h2,
	}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{
		Transport: tr, Timeout: 20 * time.Second,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

func get(t testing.TB, c *http.Client, url string) (*http.Response, string) {
	t.Helper()
	resp, err := c.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	return resp, read(t, resp)
}

func read(t testing.TB, resp *http.Response) string {
	t.Helper()
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// eventually polls until ok, which a deadline bounds.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(15 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

func (f *fixture) upstreamStat(id string) UpstreamStatus {
	for _, u := range f.Status().Upstreams {
		if u.ID == id {
			return u
		}
	}
	return UpstreamStatus{}
}
