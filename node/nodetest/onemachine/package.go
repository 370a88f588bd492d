package onemachine

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/ployz/ployz/node/nodetest/testenv"
)

// NewerDeb makes a package with a version above this checkout's, and with serving programs that were
// built anew and therefore are other files: what an upgrade brings. It returns its path.
func NewerDeb(t testing.TB, version string) string {
	t.Helper()
	return repack(t, version, map[string]string{
		"ployz-gateway": "usr/lib/ployz", "ployz-dns": "usr/lib/ployz", "ployz-nats": "usr/lib/ployz", "ployz-wireguard": "usr/lib/ployz", "ployzd": "usr/bin",
	})
}

// RenamedDeb makes a package that says that it has another version, and is this checkout's.
func RenamedDeb(t testing.TB, version string) string {
	t.Helper()
	return repack(t, version, nil)
}

// repack makes a package of another version. Of each program that is built anew it names the folder.
func repack(t testing.TB, version string, anew map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	tree, deb := filepath.Join(dir, "tree"), filepath.Join(dir, "newer.deb")
	run(t, "dpkg-deb", "--raw-extract", testenv.DebPath(), tree)
	for program, folder := range anew {
		flags := "-ldflags=-s -w -buildid=" + version + " -X main.version=" + version // a program without a version differs by its id
		run(t, "go", "build", "-trimpath", flags, "-o", filepath.Join(tree, folder, program), "./cmd/"+program)
	}
	control := filepath.Join(tree, "DEBIAN", "control")
	text, err := os.ReadFile(control)
	if err != nil {
		t.Fatal(err)
	}
	text = regexp.MustCompile(`(?m)^Version: .*$`).ReplaceAll(text, []byte("Version: "+version))
	if err := os.WriteFile(control, text, 0o644); err != nil {
		t.Fatal(err)
	}
	run(t, "dpkg-deb", "--root-owner-group", "-Zgzip", "-z1", "--build", tree, deb)
	return deb
}

// run runs a program in the root of this checkout.
func run(t testing.TB, argv ...string) {
	t.Helper()
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Dir = testenv.Repo()
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", argv, err, out)
	}
}

// Apt runs apt-get in the machine without questions and returns what it said.
func (m *Machine) Apt(args ...string) string {
	m.t.Helper()
	return m.Run(m.Host, append([]string{"env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-q", "-y", "-o", "Dpkg::Use-Pty=0"}, args...)...)
}
