package examples

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/ployz/ployz/node/nodetest/testenv"
)

// container is one unpacked image that can be started, stopped and started again.
type container struct {
	lab       *lab
	id        string
	bundle    string
	namespace string
	address   string
	config    v1.Config
	output    *output
	runc      *exec.Cmd
	exited    chan struct{} // closed when runc has ended; its status is in runc.ProcessState
}

// unpack lays out image (the name of a folder in dist/images) as a bundle for runc, with
// arguments after its entry point, environment, and files bound over its own.
func (l *lab) unpack(id, image string, args, env []string, files map[string]string) *container {
	l.t.Helper()
	c := &container{lab: l, id: l.name + "-" + id, bundle: filepath.Join(l.dir, id), output: &output{}}
	c.namespace, c.address = l.connect(id)
	img := readImage(l.t, testenv.ShopImage(image))
	file, err := img.ConfigFile()
	if err != nil {
		l.t.Fatal(err)
	}
	c.config = file.Config
	extract(l.t, img, filepath.Join(c.bundle, "rootfs"))
	if len(args) == 0 {
		args = c.config.Cmd
	}
	spec := c.spec(append(append([]string{}, c.config.Entrypoint...), args...), env, files)
	text, err := json.Marshal(spec)
	if err != nil {
		l.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(c.bundle, "config.json"), text, 0o600); err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(c.remove)
	return c
}

func readImage(t *testing.T, dir string) v1.Image {
	t.Helper()
	index, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	img, err := index.Image(manifest.Manifests[0].Digest)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

func extract(t *testing.T, img v1.Image, dir string) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	flat := mutate.Extract(img)
	defer flat.Close()
	tar := exec.Command("tar", "-x", "-p", "--numeric-owner", "-C", dir)
	tar.Stdin = flat
	if out, err := tar.CombinedOutput(); err != nil {
		t.Fatalf("tar: %v %s", err, out)
	}
}

func (c *container) spec(args, env []string, files map[string]string) specs.Spec {
	uid, gid := c.owner()
	mounts := []specs.Mount{
		{Destination: "/proc", Type: "proc", Source: "proc"},
		{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "mode=755", "size=64k"}},
		{Destination: "/dev/shm", Type: "tmpfs", Source: "shm", Options: []string{"nosuid", "nodev", "mode=1777", "size=64m"}},
		{Destination: "/etc/resolv.conf", Type: "bind", Source: filepath.Join(c.lab.dir, "resolv.conf"), Options: []string{"bind", "ro"}},
	}
	for inside, outside := range files {
		mounts = append(mounts, specs.Mount{Destination: inside, Type: "bind", Source: outside, Options: []string{"bind", "ro"}})
	}
	spec := specs.Spec{
		Version:  specs.Version,
		Root:     &specs.Root{Path: "rootfs"},
		Hostname: strings.TrimPrefix(c.id, c.lab.name+"-"),
		Mounts:   mounts,
		Process: &specs.Process{
			User: specs.User{UID: uid, GID: gid}, Args: args, Cwd: c.config.WorkingDir,
			Env: append(append([]string{}, c.config.Env...), env...), NoNewPrivileges: true,
		},
		Linux: &specs.Linux{CgroupsPath: "/" + c.id, Namespaces: []specs.LinuxNamespace{
			{Type: specs.PIDNamespace}, {Type: specs.IPCNamespace}, {Type: specs.UTSNamespace}, {Type: specs.MountNamespace},
			{Type: specs.NetworkNamespace, Path: "/run/netns/" + c.namespace},
		}},
	}
	if len(c.config.Env) == 0 {
		spec.Process.Env = append(spec.Process.Env, "PATH=/")
	}
	return spec
}

// owner is the user of the image, which must be a number and not root's.
func (c *container) owner() (uid, gid uint32) {
	var numbers [2]uint32
	parts := strings.SplitN(c.config.User, ":", 2)
	for i, part := range parts {
		n, err := strconv.ParseUint(part, 10, 32)
		if err != nil || n == 0 || len(parts) != 2 {
			c.lab.t.Fatalf("%s runs as %q, want uid:gid other than root's", c.id, c.config.User)
		}
		numbers[i] = uint32(n)
	}
	return numbers[0], numbers[1]
}

func (c *container) command(args ...string) *exec.Cmd {
	return exec.Command(testenv.RuncPath(), append([]string{"--root", filepath.Join(c.lab.dir, "runc")}, args...)...)
}

func (c *container) start() *container {
	c.lab.t.Helper()
	c.runc = c.command("run", "--bundle", c.bundle, c.id)
	c.runc.Stdout, c.runc.Stderr = c.output, c.output
	if err := c.runc.Start(); err != nil {
		c.lab.t.Fatal(err)
	}
	exited := make(chan struct{})
	c.exited = exited
	go func(cmd *exec.Cmd) {
		_ = cmd.Wait() // the status is read from ProcessState
		close(exited)
	}(c.runc)
	return c
}

// wait returns the exit status once the container has ended.
func (c *container) wait(limit time.Duration) int {
	c.lab.t.Helper()
	select {
	case <-c.exited:
		return c.runc.ProcessState.ExitCode()
	case <-time.After(limit):
		c.lab.t.Fatalf("%s does not end within %v\n%s", c.id, limit, c.output)
		return -1
	}
}

// stop sends signal to the container's first process and returns its exit status.
func (c *container) stop(signal string, limit time.Duration) int {
	c.lab.t.Helper()
	if out, err := c.command("kill", c.id, signal).CombinedOutput(); err != nil {
		c.lab.t.Fatalf("runc kill: %v %s", err, out)
	}
	return c.wait(limit)
}

// exec runs a program inside, as the image's user.
func (c *container) exec(args ...string) (string, error) {
	out, err := c.command(append([]string{"exec", c.id}, args...)...).CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%s: %w: %s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out)), err
}

func (c *container) remove() {
	if c.exited == nil {
		return
	}
	select {
	case <-c.exited:
		return
	default:
	}
	if out, err := c.command("delete", "--force", c.id).CombinedOutput(); err != nil {
		c.lab.t.Errorf("runc delete: %v %s", err, out)
	}
	c.wait(10 * time.Second)
}

// String shows the container's last words in a failure.
func (c *container) String() string { return c.id + ":\n" + c.output.String() }

// running says that a container has not ended, or how it did.
func (c *container) running() error {
	select {
	case <-c.exited:
		return errors.New(c.id + " ended: " + c.runc.ProcessState.String() + "\n" + c.output.String())
	default:
		return nil
	}
}
