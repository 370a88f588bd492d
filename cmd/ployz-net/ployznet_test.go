package main

import (
	"errors"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/ployz/ployz/datapath/bridge"
	"github.com/ployz/ployz/datapath/firewall"
	"github.com/ployz/ployz/datapath/link/linktest"
	"github.com/ployz/ployz/node/nodetest/testenv"
)

// boot is a machine whose state is on disk: a bridge, a published port and two workloads.
type boot struct {
	program          Program
	machine, outside linktest.Netns
	config           bridge.Config
	workloads        []bridge.Workload
}

func newBoot(t *testing.T) boot {
	t.Helper()
	b := boot{program: Program{State: t.TempDir()}}
	b.machine, b.outside = linktest.Lab(t, true)
	b.config = bridge.Config{Name: "ployz0", MTU: 1420, V4: netip.MustParsePrefix("10.101.7.1/24"), V6: netip.MustParsePrefix("fd12:3456:789a:7::1/64")}
	run := t.TempDir()
	for _, id := range []string{"web-0", "web-1"} {
		last := id[len(id)-1] - '0' + 5
		b.workloads = append(b.workloads, bridge.Workload{
			ID: id, NetnsPath: filepath.Join(run, id), V4: netip.AddrFrom4([4]byte{10, 101, 7, last}),
			V6: b.config.V6.Addr().Next().Next(),
		})
	}
	b.workloads[1].V6 = b.workloads[0].V6.Next()
	ports := firewall.Published{Ports: []firewall.Port{{
		Protocol: "tcp", Port: 8080, Workload: "web-0", V4: b.workloads[0].V4, V6: b.workloads[0].V6, Target: 80,
	}}}
	err := errors.Join(b.config.Save(b.program.path("net", "bridge.json")), ports.Save(b.program.path("net", "ports.json")))
	for _, w := range b.workloads {
		err = errors.Join(err, w.Save(b.program.path("workloads", w.ID, "link.json")))
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.wipe(t) })
	return b
}

func (b boot) run(t *testing.T, args ...string) {
	t.Helper()
	b.machine.Run(t, func() error { return b.program.Run(args) })
}

// wipe takes away all that a reboot would.
func (b boot) wipe(t *testing.T) {
	t.Helper()
	b.machine.Run(t, func() error {
		err := firewall.Remove()
		for _, w := range b.workloads {
			_, detached := bridge.Detach(b.config, w)
			err = errors.Join(err, detached)
		}
		_, removed := bridge.Remove(b.config)
		return errors.Join(err, removed)
	})
}

func (b boot) picture(t *testing.T) (text string) {
	t.Helper()
	b.machine.Run(t, func() error {
		links, err := bridge.Picture(b.config, b.workloads...)
		table, found := firewall.Found()
		text = links + table
		return errors.Join(err, found)
	})
	return text
}

func TestBootBringsBackTheSamePicture(t *testing.T) {
	testenv.Require(t, testenv.Root)
	b := newBoot(t)
	bare := b.picture(t)
	b.run(t, "up")
	whole := b.picture(t)
	if whole == bare {
		t.Fatal("up changed nothing that the picture shows")
	}
	b.wipe(t)
	if got := b.picture(t); got != bare {
		t.Fatalf("the wipe left\n%s", got)
	}
	b.run(t, "up")
	if got := b.picture(t); got != whole {
		t.Errorf("got\n%s\nwant\n%s", got, whole)
	}
	inside := linktest.Netns(b.workloads[0].NetnsPath)
	inside.Serve(t, "tcp", ":80", "web-0")
	b.outside.Reach(t, "tcp", netip.AddrPortFrom(linktest.MachineV4, 8080).String(), "web-0 saw "+linktest.OutsideV4.String())
	b.run(t, "up")
	b.outside.Reach(t, "tcp", netip.AddrPortFrom(linktest.MachineV6, 8080).String(), "web-0 saw "+linktest.OutsideV6.String())
}

func TestDownAndWorkloadAreOpposites(t *testing.T) {
	testenv.Require(t, testenv.Root)
	b := newBoot(t)
	b.run(t, "up")
	whole := b.picture(t)
	b.run(t, "down", "web-1")
	b.run(t, "down", "web-1")
	if b.picture(t) == whole {
		t.Error("down changed nothing")
	}
	b.run(t, "workload", "web-1")
	b.run(t, "workload", "web-1")
	if got := b.picture(t); got != whole {
		t.Errorf("got\n%s\nwant\n%s", got, whole)
	}
}

// One broken workload is named; the others come up.
func TestUpGoesOnAfterABrokenWorkload(t *testing.T) {
	testenv.Require(t, testenv.Root)
	b := newBoot(t)
	if err := os.WriteFile(b.program.path("workloads", "web-0", "link.json"), []byte(`{"id": "web-0", "hostname": "x"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	b.machine.Run(t, func() error {
		err := b.program.Run([]string{"up"})
		if err == nil || !strings.Contains(err.Error(), "1 of 2 workload links failed: web-0:") || strings.Contains(err.Error(), "\n") {
			t.Errorf("got %v", err)
		}
		found, err := bridge.List()
		if len(found) != 1 || found[0].ID != "web-1" {
			t.Errorf("links: %+v", found)
		}
		return err
	})
}

func TestRefusals(t *testing.T) {
	p := Program{State: t.TempDir()}
	for args, want := range map[string]string{
		"":                "usage",
		"up now":          "usage",
		"workload":        "usage",
		"workload ../etc": "not a workload's ID",
		"up":              "ployzctl init",
		"workload web-0":  "ployzctl init",
	} {
		if err := p.Run(strings.Fields(args)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %q", args, err, want)
		}
	}
}

// BenchmarkStart is what every workload's start waits for before ployz-net does anything.
func BenchmarkStart(b *testing.B) {
	binary := filepath.Join(b.TempDir(), "ployz-net")
	if out, err := exec.Command(filepath.Join(runtime.GOROOT(), "bin", "go"), "build", "-o", binary, ".").CombinedOutput(); err != nil {
		b.Fatalf("%v: %s", err, out)
	}
	for b.Loop() {
		if err := exec.Command(binary, "--help").Run(); err != nil {
			b.Fatal(err)
		}
	}
}
