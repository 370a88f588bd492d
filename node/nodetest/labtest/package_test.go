package labtest_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/ployz/ployz/node/nodetest/labtest"
	"github.com/ployz/ployz/node/nodetest/testenv"
)

// TestPackageContents reads the package as anybody would before installing it.
func TestPackageContents(t *testing.T) {
	testenv.Require(t, testenv.Deb, testenv.DebTools)
	list := output(t, "dpkg-deb", "--contents", testenv.DebPath())
	for path, mode := range map[string]string{
		"usr/bin/ployzctl": "-rwxr-xr-x", "usr/bin/ployzd": "-rwxr-xr-x",
		"usr/lib/ployz/ployz-nats": "-rwxr-xr-x", "usr/lib/ployz/ployz-gateway": "-rwxr-xr-x",
		"usr/lib/ployz/ployz-dns": "-rwxr-xr-x", "usr/lib/ployz/ployz-net": "-rwxr-xr-x", "usr/lib/ployz/ployz-pool": "-rwxr-xr-x", "usr/lib/ployz/ployz-wireguard": "-rwxr-xr-x", "usr/lib/ployz/runc": "-rwxr-xr-x",
		"usr/lib/systemd/system/ployzd.service": "-rw-r--r--", "usr/lib/systemd/system/ployzd.socket": "-rw-r--r--",
		"usr/lib/systemd/system/ployz.slice": "-rw-r--r--", "usr/lib/systemd/system/ployz-workloads.slice": "-rw-r--r--",
		"usr/lib/sysusers.d/ployz.conf": "-rw-r--r--", "usr/lib/tmpfiles.d/ployz.conf": "-rw-r--r--",
		"usr/lib/modules-load.d/ployz.conf":              "-rw-r--r--",
		"usr/share/bash-completion/completions/ployzctl": "-rw-r--r--", "usr/share/man/man1/ployzctl.1.gz": "-rw-r--r--",
		"usr/share/doc/ployz/copyright": "-rw-r--r--", "usr/share/doc/ployz/metrics.md": "-rw-r--r--",
		"usr/share/ployz/grafana/ployz.json": "-rw-r--r--", "usr/share/ployz/grafana/prometheus.yml": "-rw-r--r--",
		"usr/share/ployz/grafana/targets.jq": "-rw-r--r--", "usr/share/ployz/grafana/README.md": "-rw-r--r--",
		"etc/ployz/config.toml": "-rw-r--r--",
	} {
		line := regexp.MustCompile(`(?m)^(\S+) root/root .* \./` + regexp.QuoteMeta(path) + `$`).FindStringSubmatch(list)
		if line == nil || line[1] != mode {
			t.Errorf("%s: found %q, want it as %s root/root", path, line, mode)
		}
	}
	if got := output(t, "dpkg-deb", "--info", testenv.DebPath(), "conffiles"); strings.TrimSpace(got) != "/etc/ployz/config.toml" {
		t.Errorf("conffiles: %q", got)
	}
}

// TestScripts checks every shell script that we ship or run as root.
func TestScripts(t *testing.T) {
	testenv.Require(t, testenv.ShellCheck)
	var scripts []string
	for _, pattern := range []string{"packaging/*.sh", "packaging/scripts/*.sh", "cmd/ployzctl/dev/*.sh", "examples/*.sh", ".ci/run"} {
		scripts = append(scripts, glob(t, filepath.Join(testenv.Repo(), pattern))...)
	}
	if out, err := exec.Command("shellcheck", scripts...).CombinedOutput(); err != nil {
		t.Errorf("shellcheck: %v\n%s", err, out)
	}
}

// serving stands for what ployzd renders at init: units of ours that must outlive everything but
// a purge, with what they hold on to.
const serving = `
unit() {
	printf '[Unit]\nX-Ployz-Identity=test\n[Service]\nSlice=%s\nExecStart=/bin/sleep infinity\n[Install]\nWantedBy=multi-user.target\n' "$2" >"/etc/systemd/system/$1"
}
for name in nats nats-core gateway dns; do unit "ployz-$name.service" ployz.slice; done
unit ployz-workload@abc.service ployz-workloads.slice
systemctl daemon-reload
systemctl --quiet enable --now ployz-nats ployz-nats-core ployz-gateway ployz-dns ployz-workload@abc
mkdir -p /run/ployz/netns /var/lib/ployz/workloads/abc/rootfs
touch /run/ployz/netns/abc
unshare --net=/run/ployz/netns/abc true
mount -t tmpfs tmpfs /var/lib/ployz/workloads/abc/rootfs
mkdir /srv/volume /var/lib/ployz/workloads/abc/rootfs/volume
echo precious >/srv/volume/file
mount --bind /srv/volume /var/lib/ployz/workloads/abc/rootfs/volume
ip link add ployz0 type bridge
printf '[Service]\nExecStart=/bin/sleep infinity\n' >/etc/systemd/system/ployz-foreign.service
systemctl daemon-reload
systemctl start ployz-foreign
echo '# edited' >>/etc/ployz/config.toml
`

var servingUnits = []string{"ployz-nats", "ployz-nats-core", "ployz-gateway", "ployz-dns", "ployz-workload@abc"}

// TestPackageLife installs, upgrades, removes, installs again and purges the package in a real
// machine where things are being served.
func TestPackageLife(t *testing.T) {
	testenv.Require(t, testenv.Deb, testenv.DebTools)
	lab := labtest.Start(t, 1)
	lab.Copy("m1", testenv.DebPath(), "/var/tmp/ployz.deb")
	lab.Copy("m1", newerDeb(t), "/var/tmp/newer.deb")
	apt := func(args ...string) string {
		t.Helper()
		return lab.Run("m1", append([]string{"env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-q", "-y", "-o", "Dpkg::Use-Pty=0"}, args...)...)
	}

	apt("install", "/var/tmp/ployz.deb")
	wantActive(t, lab, "ployzd.socket", "ployzd.service")
	if got := lab.Run("m1", "stat", "-c", "%a %U:%G", "/run/ployz/ployzd.sock"); got != "660 root:ployz" {
		t.Errorf("the API socket is %s", got)
	}
	lab.Script("m1", serving)
	pids, daemon := mainPIDs(lab, servingUnits...), mainPIDs(lab, "ployzd")

	apt("install", "/var/tmp/newer.deb")
	wantActive(t, lab, "ployzd.socket", "ployzd.service")
	if now := mainPIDs(lab, "ployzd"); now == daemon {
		t.Error("the upgrade did not restart ployzd")
	}
	wantServing(t, lab, pids, "upgrade")
	if got := lab.Run("m1", "tail", "-n1", "/etc/ployz/config.toml"); got != "# edited" {
		t.Errorf("the upgrade changed the operator's configuration: %q", got)
	}

	said := apt("remove", "ployz")
	wantServing(t, lab, pids, "remove")
	if r := lab.Try("m1", "systemctl", "is-active", "ployzd.socket", "ployzd.service"); strings.Contains("\n"+r.Out, "\nactive") {
		t.Errorf("after remove: %s", r.Out)
	}
	for _, unit := range servingUnits {
		if !strings.Contains(said, "  "+unit+".service\n") {
			t.Errorf("remove does not say that %s keeps running:\n%s", unit, said)
		}
	}
	if strings.Contains(said, "ployz-foreign") {
		t.Errorf("remove takes somebody else's unit for ours:\n%s", said)
	}

	apt("install", "/var/tmp/newer.deb")
	wantActive(t, lab, "ployzd.socket", "ployzd.service")
	wantServing(t, lab, pids, "install after remove")

	apt("purge", "ployz")
	wantPurged(t, lab)
}

// wantPurged proves that everything of ours is gone and nothing of anybody else's.
func wantPurged(t *testing.T, lab *labtest.Lab) {
	t.Helper()
	left := lab.Script("m1", `
		systemctl list-units --all --plain --no-legend 'ployz*' | grep -v ployz-foreign || true
		find /etc/systemd/system /etc/ployz /run/ployz /usr/lib/ployz -name '*ployz*' ! -name ployz-foreign.service 2>/dev/null || true
		find /var/lib/ployz -mindepth 1; ls /var/lib/dpkg/info | grep ployz || true
		awk '$2 ~ "^/(run|var/lib)/ployz/"' /proc/mounts; ip -brief link show ployz0 2>/dev/null || true`)
	if left != "" {
		t.Errorf("purge left:\n%s", left)
	}
	wantActive(t, lab, "ployz-foreign")
	if got := lab.Run("m1", "cat", "/srv/volume/file"); got != "precious" {
		t.Errorf("purge followed a mount into what is not ours: %q", got)
	}
	if got := lab.Run("m1", "systemctl", "is-system-running"); got != "running" {
		t.Errorf("after purge the machine is %s", got)
	}
}

func wantActive(t *testing.T, lab *labtest.Lab, units ...string) {
	t.Helper()
	for _, unit := range units {
		if r := lab.Try("m1", "systemctl", "is-active", unit); r.Status != 0 {
			t.Errorf("%s is %s", unit, strings.TrimSpace(r.Out))
		}
	}
}

func wantServing(t *testing.T, lab *labtest.Lab, pids, when string) {
	t.Helper()
	if now := mainPIDs(lab, servingUnits...); now != pids {
		t.Errorf("%s restarted or stopped what serves: main processes %q, then %q", when, pids, now)
	}
}

// mainPIDs are the main processes of units, in order; 0 for one that does not run.
func mainPIDs(lab *labtest.Lab, units ...string) string {
	return lab.Run("m1", append([]string{"systemctl", "show", "--value", "--property=MainPID"}, units...)...)
}

// newerDeb is the same package with a higher version.
func newerDeb(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	tree, deb := filepath.Join(dir, "tree"), filepath.Join(dir, "newer.deb")
	output(t, "dpkg-deb", "--raw-extract", testenv.DebPath(), tree)
	control := filepath.Join(tree, "DEBIAN", "control")
	text, err := os.ReadFile(control)
	if err != nil {
		t.Fatal(err)
	}
	text = regexp.MustCompile(`(?m)^Version: .*$`).ReplaceAll(text, []byte("Version: 999"))
	if err := os.WriteFile(control, text, 0o644); err != nil {
		t.Fatal(err)
	}
	output(t, "dpkg-deb", "--root-owner-group", "-Zgzip", "-z1", "--build", tree, deb)
	return deb
}

func output(t *testing.T, argv ...string) string {
	t.Helper()
	out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(argv, " "), err, out)
	}
	return string(out)
}
