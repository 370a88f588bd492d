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

// TestCertificates: pairs come, break, are mended and go; each by itself.
func TestCertificates(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "tls")
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
	c := &certificates{dir: dir, server: server, log: log}
	write := func(name string, text []byte) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	serial := func(name string) string {
		conn, err := tls.Dial("tcp", ln.Addr().String(), &tls.Config{ServerName: name, InsecureSkipVerify: true})
		if err != nil {
			return ""
		}
		defer conn.Close()
		return conn.ConnectionState().PeerCertificates[0].SerialNumber.String()
	}
	problems := func() (out []string) {
		for _, s := range c.status() {
			if s.Error != "" {
				out = append(out, filepath.Base(s.File))
			}
		}
		return out
	}
	expect := func(when string, a, b bool, bad ...string) {
		t.Helper()
		c.load()
		if (serial("a.test") != "") != a || (serial("b.test") != "") != b || strings.Join(problems(), " ") != strings.Join(bad, " ") {
			t.Errorf("%s: a %q, b %q, problems %v", when, serial("a.test"), serial("b.test"), c.status())
		}
	}

	expect("no folder", false, false)
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	chainA, keyA := pemPair(t, "a.test")
	chainB, keyB := pemPair(t, "b.test")
	write("a.crt", chainA)
	write("a.key", keyA)
	write("b.pem", chainB)
	expect("b has no key yet", true, false, "b.pem")
	write("b.key", keyB)
	write("README", []byte("not ours"))
	expect("both", true, true)
	before := serial("a.test")
	newA, newKeyA := pemPair(t, "a.test")
	write("a.crt", newA)
	expect("a's key is still the old one", true, true, "a.crt")
	if serial("a.test") != before {
		t.Error("a half replaced pair is served")
	}
	write("a.key", newKeyA)
	expect("a is replaced", true, true)
	if serial("a.test") == before {
		t.Error("the old certificate is still served")
	}
	write("b.pem", []byte("garbage, longer"))
	expect("b is broken", true, true, "b.pem")
	for _, name := range []string{"b.pem"} {
		if err := os.Remove(filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	expect("b's key alone", true, true, "b.crt")
	if err := os.Remove(filepath.Join(dir, "b.key")); err != nil {
		t.Fatal(err)
	}
	expect("b is gone", true, false)
}
