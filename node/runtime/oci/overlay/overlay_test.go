package overlay_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ployz/ployz/node/nodetest/testenv"
	"github.com/ployz/ployz/node/runtime/oci/overlay"
)

// tall makes a stack of so many layers, each with one file of its own and one that all have, below a
// root whose path is as long as the product's.
func tall(t *testing.T, layers int) overlay.Stack {
	t.Helper()
	dir := t.TempDir()
	s := overlay.Stack{Upper: filepath.Join(dir, "upper"), Work: filepath.Join(dir, "work"), Target: filepath.Join(dir, "target")}
	for i := range layers {
		fs := filepath.Join(dir, "images/layers", fmt.Sprintf("abcdefg%03d", i), "fs")
		write(t, filepath.Join(fs, fmt.Sprintf("own%d", i)), "x")
		write(t, filepath.Join(fs, "shared"), fmt.Sprint(i))
		s.Lower = append(s.Lower, fs)
	}
	for _, d := range []string{s.Upper, s.Work, s.Target} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

func write(t *testing.T, name, body string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(body), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestMount120Layers(t *testing.T) {
	testenv.Require(t, testenv.Root, testenv.Overlay)
	mounts := map[string]func(overlay.Stack) error{"mount": overlay.Mount, "classic": overlay.MountRelative}
	for name, mount := range mounts {
		t.Run(name, func(t *testing.T) {
			s := tall(t, 120)
			before, err := os.Getwd()
			if err != nil {
				t.Fatal(err)
			}
			if err := mount(s); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { unmount(t, s.Target) })
			checkTall(t, s)
			if after, err := os.Getwd(); after != before {
				t.Errorf("the program's folder moved to %s (%v)", after, err)
			}
		})
	}
}

func checkTall(t *testing.T, s overlay.Stack) {
	t.Helper()
	names, err := os.ReadDir(s.Target)
	if err != nil || len(names) != len(s.Lower)+1 {
		t.Errorf("%d names in the mount, %v", len(names), err)
	}
	body, err := os.ReadFile(filepath.Join(s.Target, "shared"))
	if err != nil || string(body) != fmt.Sprint(len(s.Lower)-1) {
		t.Errorf("the topmost layer does not win: %q %v", body, err)
	}
	write(t, filepath.Join(s.Target, "shared"), "changed")
	if _, err := os.Stat(filepath.Join(s.Upper, "shared")); err != nil {
		t.Errorf("a write did not go to the upper folder: %v", err)
	}
}

func unmount(t *testing.T, target string) {
	t.Helper()
	if err := overlay.Unmount(target); err != nil {
		t.Error(err)
	}
	if err := overlay.Unmount(target); err != nil {
		t.Errorf("a second unmount: %v", err)
	}
}

func TestOptionsFitAPageOrSayNo(t *testing.T) {
	s := overlay.Stack{Upper: "/var/lib/ployz/workloads/0123456789ab/upper", Work: "/var/lib/ployz/workloads/0123456789ab/work"}
	for i := range 270 {
		s.Lower = append(s.Lower, fmt.Sprintf("/var/lib/ployz/images/layers/abcdefg%03d/fs", i))
	}
	base, options, err := overlay.Options(s)
	if err != nil || base != "/var/lib/ployz/images/layers" || !strings.HasPrefix(options, "lowerdir=abcdefg269/fs:") {
		t.Errorf("%s %.60s %v", base, options, err)
	}
	for i := range 100 {
		s.Lower = append(s.Lower, fmt.Sprintf("/var/lib/ployz/images/layers/abcdexx%03d/fs", i))
	}
	if _, _, err := overlay.Options(s); !errors.Is(err, overlay.ErrTooManyLayers) {
		t.Errorf("370 layers: %v", err)
	}
}

func TestTooManyLayersForTheKernel(t *testing.T) {
	s := overlay.Stack{Lower: make([]string, overlay.MaxLayers+1)}
	if err := overlay.Mount(s); !errors.Is(err, overlay.ErrTooManyLayers) {
		t.Errorf("got %v", err)
	}
}
