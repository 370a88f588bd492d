package memruntime

import (
	"errors"
	"io"
	"net/netip"
	"strings"
	"testing"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/runtime"
	"github.com/ployz/ployz/node/runtime/runtimetest"
)

func fixture(t *testing.T) runtimetest.Fixture {
	r := New()
	r.Program = func(s runtime.Spec) Program {
		p := runtimetest.Play(s.Process.Command, s.Process.Env)
		return Program{Lines: p.Lines, Ends: p.Ends, ExitCode: p.ExitCode}
	}
	r.Command = playCommand
	next := netip.MustParseAddr("10.101.1.9")
	return runtimetest.Fixture{
		Runtime: r, Console: r, Image: runtime.Image{Digest: "sha256:00"},
		Folder:    func(t *testing.T) string { return t.TempDir() },
		Addresses: func() runtime.Addresses { next = next.Next(); return runtime.Addresses{V4: next} },
		Reopen:    func() runtime.Runtime { return r },
	}
}

// playCommand is the exec of the suite's program: says, copies its input, ends.
func playCommand(_ runtime.Spec, c runtime.Command) (int, error) {
	for _, word := range c.Args {
		verb, arg, _ := strings.Cut(word, "=")
		switch verb {
		case "say":
			io.WriteString(c.Stdout, arg+"\n")
		case "err":
			io.WriteString(c.Stderr, arg+"\n")
		case "echo":
			io.Copy(c.Stdout, c.Stdin)
		}
	}
	return runtimetest.Play(c.Args, nil).ExitCode, nil
}

func TestConformance(t *testing.T) { runtimetest.Run(t, fixture) }

func TestFaults(t *testing.T) {
	broken := errors.New("broken here")
	for _, after := range []bool{false, true} {
		r := New()
		spec := runtimetest.Spec(t, "", "serve")
		r.SetFault(func(p Point) error {
			if p == (Point{"Prepare", spec.ID, after}) {
				return broken
			}
			return nil
		})
		if err := r.Prepare(t.Context(), spec, runtime.Image{}, runtime.Addresses{}); !errors.Is(err, broken) {
			t.Fatalf("after=%t: %v", after, err)
		}
		if got := len(r.World()) == 1; got != after {
			t.Fatalf("after=%t: world %v", after, r.World())
		}
		r.SetFault(nil)
		if err := r.Prepare(t.Context(), spec, runtime.Image{}, runtime.Addresses{}); err != nil {
			t.Fatal(err)
		}
	}
}

func TestWorldLeavesNothingBehind(t *testing.T) {
	r := New()
	network := r.Network.(*Network)
	spec := runtimetest.Spec(t, "", "serve")
	addrs := runtime.Addresses{V4: netip.MustParseAddr("10.101.1.9")}
	if err := r.Prepare(t.Context(), spec, runtime.Image{}, addrs); err != nil {
		t.Fatal(err)
	}
	ports := []runtime.PublishedPort{{Published: 80, Target: 8080, Protocol: "tcp"}}
	if err := network.Publish(t.Context(), spec.ID, addrs, ports); err != nil {
		t.Fatal(err)
	}
	if err := network.Publish(t.Context(), "other", addrs, ports); api.CodeOf(err) != api.CodePortTaken {
		t.Fatalf("second holder of a port: %v", err)
	}
	if len(network.World()) != 2 || len(r.World()) != 1 {
		t.Fatalf("world %v %v", network.World(), r.World())
	}
	if err := r.Remove(t.Context(), spec.ID); err != nil {
		t.Fatal(err)
	}
	if len(network.World()) != 0 || len(r.World()) != 0 {
		t.Fatalf("world after Remove %v %v", network.World(), r.World())
	}
}

func TestImages(t *testing.T) {
	images := NewImages()
	if _, err := images.Ensure(t.Context(), "web:1", runtime.Pull{}); api.CodeOf(err) != api.CodeImageNotFound {
		t.Fatalf("absent image: %v", err)
	}
	want := images.Serve("web:1", "one", runtime.ImageConfig{})
	if _, err := images.Lookup(t.Context(), "web:1"); api.CodeOf(err) != api.CodeImageNotFound {
		t.Fatalf("image that was not pulled: %v", err)
	}
	for _, reference := range []string{"web:1", "web:1@" + want.Digest} {
		if got, err := images.Ensure(t.Context(), reference, runtime.Pull{}); err != nil || got.Digest != want.Digest {
			t.Fatalf("Ensure(%s) = %v, %v", reference, got, err)
		}
	}
	images.Serve("web:1", "two", runtime.ImageConfig{})
	if got, _ := images.Ensure(t.Context(), "web:1", runtime.Pull{}); got.Digest != want.Digest {
		t.Fatal("a present reference was looked up again")
	}
	if got, _ := images.Ensure(t.Context(), "web:1", runtime.Pull{Always: true}); got.Digest == want.Digest {
		t.Fatal("pull.Always did not look up again")
	}
}
