package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ployz/ployz/datapath/gateway"
)

// lookAtCertificates is how often the folder is looked at.
const lookAtCertificates = 5 * time.Second

// certificates serves the pairs of a folder: NAME.crt or NAME.pem with NAME.key. A pair that cannot
// be read is reported, what it last was goes on being served while its files are there, and the
// others are not concerned.
type certificates struct {
	dir    string
	server *gateway.Server
	log    *slog.Logger

	mu sync.Mutex
	// All below is guarded by mu.
	seen  string // what the folder looked like when it was read
	pairs map[string]pair
}

// pair is one certificate with its key.
type pair struct {
	file string
	cert *tls.Certificate // the last good one, nil for none
	err  error            // why the files there now are not served
}

// certificateStatus is one pair in the status.
type certificateStatus struct {
	File    string    `json:"file"`
	Names   []string  `json:"names,omitempty"`
	Expires time.Time `json:"expires,omitzero"`
	Error   string    `json:"error,omitempty"`
}

// watch reads the folder again whenever it changed, until ctx ends.
func (c *certificates) watch(ctx context.Context) {
	tick := time.NewTicker(lookAtCertificates)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			c.load()
		}
	}
}

// load reads the folder if it changed. A folder that is not there holds no certificates.
func (c *certificates) load() {
	c.mu.Lock()
	defer c.mu.Unlock()
	entries, err := os.ReadDir(c.dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		if c.seen != err.Error() {
			c.log.Error("the folder of certificates cannot be read; those before stay", "error", err)
		}
		c.seen = err.Error()
		return
	}
	look, chains := survey(c.dir, entries)
	if look == c.seen {
		return
	}
	c.seen = look
	before := c.pairs
	c.pairs = map[string]pair{}
	for name, file := range chains {
		c.pairs[name] = c.read(name, file, before[name].cert)
	}
	c.serveLocked()
}

// survey describes the folder so that a change shows, and names the chain file of each pair. Of a
// link the target counts. Where a key has no chain, it is the missing file that is named.
func survey(dir string, entries []os.DirEntry) (look string, chains map[string]string) {
	var text strings.Builder
	there := map[string]bool{}
	for _, e := range entries {
		stat, err := os.Stat(filepath.Join(dir, e.Name()))
		if err != nil || stat.IsDir() {
			continue
		}
		there[e.Name()] = true
		fmt.Fprintln(&text, e.Name(), stat.Size(), stat.ModTime().UnixNano())
	}
	chains = map[string]string{}
	for file := range there {
		ext := filepath.Ext(file)
		name := strings.TrimSuffix(file, ext)
		if !slices.Contains([]string{".crt", ".pem", ".key"}, ext) {
			continue
		}
		chains[name] = filepath.Join(dir, name+".crt")
		if !there[name+".crt"] && there[name+".pem"] {
			chains[name] = filepath.Join(dir, name+".pem")
		}
	}
	return text.String(), chains
}

func (c *certificates) read(name, file string, before *tls.Certificate) pair {
	loaded, err := gateway.LoadCertificates([]gateway.CertificateFile{{Cert: file, Key: filepath.Join(c.dir, name+".key")}})
	if err != nil {
		c.log.Error("a certificate cannot be served", "file", file, "error", err, "its last good one is served", before != nil)
		return pair{file, before, err}
	}
	return pair{file, &loaded[0], nil}
}

func (c *certificates) serveLocked() {
	var list []tls.Certificate
	for _, name := range slices.Sorted(maps.Keys(c.pairs)) {
		if cert := c.pairs[name].cert; cert != nil {
			list = append(list, *cert)
		}
	}
	c.server.SetCertificates(list)
}

func (c *certificates) status() []certificateStatus {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := []certificateStatus{}
	for _, name := range slices.Sorted(maps.Keys(c.pairs)) {
		p := c.pairs[name]
		s := certificateStatus{File: p.file}
		if p.cert != nil && p.cert.Leaf != nil {
			s.Names, s.Expires = p.cert.Leaf.DNSNames, p.cert.Leaf.NotAfter
		}
		if p.err != nil {
			s.Error = p.err.Error()
		}
		out = append(out, s)
	}
	return out
}
