package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ployz/ployz/datapath/gateway"
)

// pemPair makes a chain and a key for a name.
func pemPair(t *testing.T, name string) (chain, key []byte) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	serial, _ := rand.Int(rand.Reader, big.NewInt(1<<60))
	tmpl := &x509.Certificate{SerialNumber: serial, DNSNames: []string{name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})
}

// certificateRig is a gateway that serves TLS from a folder which the test changes.
type certificateRig struct {
	*testing.T
	certificates
	address string
}

func newCertificateRig(t *testing.T) *certificateRig {
	log := slog.New(slog.DiscardHandler)
	server := &gateway.Server{Log: log}
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go server.Serve(t.Context(), gateway.Listeners{HTTPS: []net.Listener{ln}})
	return &certificateRig{t, certificates{dir: filepath.Join(t.TempDir(), "tls"), server: server, log: log}, ln.Addr().String()}
}

func (r *certificateRig) write(name string, text []byte) {
	r.Helper()
	if err := os.WriteFile(filepath.Join(r.dir, name), text, 0o600); err != nil {
		r.Fatal(err)
	}
}

func (r *certificateRig) remove(name string) {
	r.Helper()
	if err := os.Remove(filepath.Join(r.dir, name)); err != nil {
		r.Fatal(err)
	}
}

// served is the serial number of the certificate for a name, or "".
func (r *certificateRig) served(name string) string {
	conn, err := tls.Dial("tcp", r.address, &tls.Config{ServerName: name, InsecureSkipVerify: true})
	if err != nil {
		return ""
	}
	defer conn.Close()
	return conn.ConnectionState().PeerCertificates[0].SerialNumber.String()
}

func (r *certificateRig) problems() (files []string) {
	for _, s := range r.status() {
		if s.Error != "" {
			files = append(files, filepath.Base(s.File))
		}
	}
	return files
}

// expect loads the folder and says whether a.test and b.test must be served, and which files are bad.
func (r *certificateRig) expect(when string, a, b bool, bad ...string) {
	r.Helper()
	r.load()
	if (r.served("a.test") != "") != a || (r.served("b.test") != "") != b || strings.Join(r.problems(), " ") != strings.Join(bad, " ") {
		r.Errorf("%s: a %q, b %q, problems %v", when, r.served("a.test"), r.served("b.test"), r.status())
	}
}

// TestCertificates: pairs come, break, are mended and go; each by itself.
func TestCertificates(t *testing.T) {
	r := newCertificateRig(t)
	r.expect("no folder", false, false)
	if err := os.Mkdir(r.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	chainA, keyA := pemPair(t, "a.test")
	chainB, keyB := pemPair(t, "b.test")
	r.write("a.crt", chainA)
	r.write("a.key", keyA)
	r.write("b.pem", chainB)
	r.expect("b has no key yet", true, false, "b.pem")
	r.write("b.key", keyB)
	r.write("README", []byte("not ours"))
	r.expect("both", true, true)
	before := r.served("a.test")
	newA, newKeyA := pemPair(t, "a.test")
	r.write("a.crt", newA)
	r.expect("a's key is still the old one", true, true, "a.crt")
	if r.served("a.test") != before {
		t.Error("a half replaced pair is served")
	}
	r.write("a.key", newKeyA)
	r.expect("a is replaced", true, true)
	if r.served("a.test") == before {
		t.Error("the old certificate is still served")
	}
	r.write("b.pem", []byte("garbage, longer"))
	r.expect("b is broken", true, true, "b.pem")
	r.remove("b.pem")
	r.expect("b's key alone", true, true, "b.crt")
	r.remove("b.key")
	r.expect("b is gone", true, false)
}
