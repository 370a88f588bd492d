package oci_test

import (
	"fmt"
	"math/rand"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/nodetest/testenv"
	"github.com/ployz/ployz/node/runtime"
	"github.com/ployz/ployz/node/runtime/oci"
	. "github.com/ployz/ployz/node/runtime/oci/ocitest"
)

// TestMain doubles as the program that pulls and gets killed.
func TestMain(m *testing.M) {
	if ref := os.Getenv("OCI_TEST_PULL"); ref != "" {
		s, err := oci.Open(oci.Options{Root: os.Getenv("OCI_TEST_ROOT")})
		if err == nil {
			_, err = s.Ensure(ctx, ref, runtime.Pull{})
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0) // without Close, as programs end
	}
	os.Exit(m.Run())
}

// many is an image whose unpacking takes long enough to be killed in.
func many(layers, files int) *Built {
	img := &Image{}
	for l := range layers {
		list := map[string]string{}
		for f := range files {
			list[fmt.Sprintf("d%d/f%d", f%17, f)] = fmt.Sprintf("%d %d %s", l, f, strings.Repeat("x", 3000))
		}
		img.Layers = append(img.Layers, Files(list))
	}
	return img.MustBuild()
}

// TestKilledPull kills a pulling program at random moments. What has its final name must be whole each time, the next Open
// clears the rest, and the next pull completes.
func TestKilledPull(t *testing.T) {
	testenv.Require(t, testenv.Root)
	host := serve(t, nil)
	b := many(4, 400)
	push(t, http.DefaultClient, "http://"+host, "web", "1", b)
	root := filepath.Join(t.TempDir(), "images")
	killed := 0
	for range 12 {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), "OCI_TEST_PULL="+host+"/web:1", "OCI_TEST_ROOT="+root)
		must(t, cmd.Start())
		timer := time.AfterFunc(time.Duration(rand.Intn(250))*time.Millisecond, func() { cmd.Process.Kill() })
		if err := cmd.Wait(); err != nil {
			killed++
		}
		timer.Stop()
		s, err := oci.Open(oci.Options{Root: root})
		must(t, err)
		left, err := filepath.Glob(filepath.Join(root, "tmp/*"))
		if must(t, err); len(left) != 1 {
			t.Errorf("beside our own session there is %v", left)
		}
		found, err := s.Verify(ctx, false)
		if must(t, err); len(found) > 0 {
			t.Errorf("after a kill: %+v", found)
		}
		must(t, s.Close())
	}
	t.Logf("killed %d of 12", killed)
	s, err := oci.Open(oci.Options{Root: root})
	must(t, err)
	t.Cleanup(func() { must(t, s.Close()) })
	img, err := s.Ensure(ctx, host+"/web:1", runtime.Pull{})
	must(t, err)
	clean(t, root, 6, 4)
	for l := range img.Layers {
		names, err := filepath.Glob(filepath.Join(img.Layers[l], "d*/f*"))
		if must(t, err); len(names) != 400 {
			t.Errorf("layer %d has %d files", l, len(names))
		}
	}
}

// small mounts a file system of so many bytes and returns a store on it.
func small(t *testing.T, size, inodes int) (*oci.Store, string) {
	t.Helper()
	testenv.Require(t, testenv.Root)
	dir := t.TempDir()
	must(t, unix.Mount("ployz-test", dir, "tmpfs", 0, fmt.Sprintf("size=%d,nr_inodes=%d", size, inodes)))
	t.Cleanup(func() { must(t, unix.Unmount(dir, unix.MNT_DETACH)) })
	return open(t, func(o *oci.Options) { o.Root = filepath.Join(dir, "images") })
}

func TestDiskFull(t *testing.T) {
	packs := (&Image{Layers: []Layer{Files(map[string]string{"zeros": strings.Repeat("\x00", 8<<20)})}}).MustBuild()
	bulky := (&Image{Layers: []Layer{{Compression: Plain, Entries: []Entry{File("r", 0o644, strings.Repeat("r", 3<<20))}}}}).MustBuild()
	cases := map[string]struct {
		built        *Built
		size, inodes int
		layers       int
	}{
		"seen before unpacking":   {packs, 4 << 20, 0, 0},
		"seen before downloading": {bulky, 2 << 20, 0, 0},
		"hit while unpacking":     {bulky, 5 << 20, 0, 0},
		"no inodes left":          {many(1, 300), 50 << 20, 100, 0},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			host := serve(t, nil)
			push(t, http.DefaultClient, "http://"+host, "web", "1", c.built)
			s, root := small(t, c.size, c.inodes)
			_, err := s.Ensure(ctx, host+"/web:1", runtime.Pull{})
			expectCode(t, err, api.CodeImageDiskFull)
			if !strings.Contains(err.Error(), "free") {
				t.Errorf("it does not say what is free: %v", err)
			}
			left, err := filepath.Glob(filepath.Join(root, "tmp/*/[^l]*"))
			must(t, err)
			layers, err := os.ReadDir(filepath.Join(root, "layers"))
			if must(t, err); len(left)+len(layers) > 0 {
				t.Errorf("left over: %v %v", left, layers)
			}
		})
	}
}

func TestReserveIsKeptFree(t *testing.T) {
	s, root := open(t, func(o *oci.Options) { o.ReserveBytes = 1 << 60 })
	_, err := importTar(t, s, "web:1", web().MustBuild())
	expectCode(t, err, api.CodeImageDiskFull)
	clean(t, root, 0, 0)
}
