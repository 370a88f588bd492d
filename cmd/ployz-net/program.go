package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/ployz/ployz/datapath/bridge"
	"github.com/ployz/ployz/datapath/firewall"
	"github.com/ployz/ployz/node/mesh"
)

// Program is ployz-net with what it works on, so that tests run the very same.
type Program struct {
	// State is the folder of what boot needs: /var/lib/ployz.
	State string
	// MeshPatience bounds the wait for the userspace WireGuard device, which another unit starts; 0 means 10 s.
	MeshPatience time.Duration
}

type usageError string

// Error returns what is wrong with the arguments.
func (e usageError) Error() string { return string(e) }

const usage = "usage: ployz-net [--state DIR] up | mesh | workload ID | down ID"

// Run does what the arguments say.
func (p *Program) Run(args []string) error {
	if len(args) >= 2 && args[0] == "--state" {
		p.State, args = args[1], args[2:]
	}
	switch {
	case len(args) == 1 && args[0] == "up":
		return p.up()
	case len(args) == 1 && args[0] == "mesh":
		return p.meshAlone()
	case len(args) == 2 && args[0] == "workload":
		return p.workload(args[1])
	case len(args) == 2 && args[0] == "down":
		return p.down(args[1])
	case len(args) == 1 && (args[0] == "--help" || args[0] == "-h"):
		_, err := fmt.Println(usage)
		return err
	}
	return usageError(usage)
}

func (p *Program) path(parts ...string) string {
	return filepath.Join(append([]string{p.State}, parts...)...)
}

// up goes on after a workload or a mesh that fails: the others are not to blame. The mesh comes last, since it may have to
// wait for its device.
func (p *Program) up() error {
	c, err := p.bridge()
	if err != nil {
		return err
	}
	if _, err := bridge.Ensure(c); err != nil {
		return err
	}
	s, err := p.mesh()
	if err != nil {
		s, err = nil, inMesh(err)
	}
	if err := p.firewall(c, s); err != nil {
		return err
	}
	failed := []error{err, p.links(c)}
	if s != nil {
		_, err := p.ensureMesh(*s)
		failed = append(failed, err)
	}
	return oneLine(failed)
}

// oneLine joins errors as one line of the journal.
func oneLine(failed []error) error {
	var out error
	for _, err := range failed {
		switch {
		case out == nil:
			out = err
		case err != nil:
			out = fmt.Errorf("%w; %w", out, err)
		}
	}
	return out
}

func (p *Program) bridge() (bridge.Config, error) {
	path := p.path("net", "bridge.json")
	c, err := bridge.LoadConfig(path)
	if errors.Is(err, fs.ErrNotExist) {
		return c, fmt.Errorf("%s is missing: this machine is in no cluster yet, run `ployzctl init`", path)
	}
	return c, err
}

// firewall works without ports.json: then nothing was published yet.
func (p *Program) firewall(c bridge.Config, s *mesh.State) error {
	published, err := firewall.LoadPublished(p.path("net", "ports.json"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	_, err = firewall.Ensure(firewallConfig(c, s, published))
	return err
}

func firewallConfig(c bridge.Config, s *mesh.State, published firewall.Published) firewall.Config {
	name := c.Name
	if name == "" {
		name = bridge.DefaultName
	}
	f := firewall.Config{Bridge: name, V4: c.V4.Masked(), V6: c.V6.Masked(), Published: published}
	if s != nil {
		f.Overlay, f.Cluster = []string{s.Interface}, s.Cluster
	}
	return f
}

func (p *Program) links(c bridge.Config) error {
	files, err := filepath.Glob(p.path("workloads", "*", "link.json"))
	if err != nil {
		return err
	}
	var failed []string
	for _, file := range files {
		if err := attach(c, file); err != nil {
			failed = append(failed, fmt.Sprintf("%s: %v", filepath.Base(filepath.Dir(file)), err))
		}
	}
	if len(failed) > 0 {
		return fmt.Errorf("%d of %d workload links failed: %s", len(failed), len(files), strings.Join(failed, "; "))
	}
	return nil
}

func attach(c bridge.Config, file string) error {
	w, err := bridge.LoadWorkload(file)
	if err != nil {
		return err
	}
	_, err = bridge.Attach(c, w)
	return err
}

// workload prepares what the instance's unit needs before runc.
func (p *Program) workload(id string) error {
	c, file, err := p.one(id)
	if err != nil {
		return err
	}
	if err := attach(c, file); err != nil {
		return fmt.Errorf("workload %s: %w", id, err)
	}
	if err := ensureFiles(p.State, id); err != nil {
		return fmt.Errorf("workload %s: %w", id, err)
	}
	return nil
}

func (p *Program) one(id string) (bridge.Config, string, error) {
	if id == "" || id != filepath.Base(id) || strings.HasPrefix(id, ".") {
		return bridge.Config{}, "", usageError(fmt.Sprintf("%q is not a workload's ID; %s", id, usage))
	}
	c, err := p.bridge()
	if err != nil {
		return c, "", err
	}
	file := p.path("workloads", id, "link.json")
	if _, err := os.Stat(file); err != nil {
		return c, "", fmt.Errorf("workload %s is not on this machine: no %s (ployzctl service ls shows where it runs)", id, file)
	}
	return c, file, nil
}

// down leaves the files alone: `workload ID` brings the same link back.
func (p *Program) down(id string) error {
	c, file, err := p.one(id)
	if err != nil {
		return err
	}
	w, err := bridge.LoadWorkload(file)
	if err != nil {
		return err
	}
	if _, err := bridge.Detach(c, w); err != nil {
		return fmt.Errorf("workload %s: %w", id, err)
	}
	return nil
}
