package first_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/nodetest/onemachine"
	"github.com/ployz/ployz/node/runtime/oci/ocitest"
)

// bad is a command that must be refused.
type bad struct {
	name string
	// compose is deployed; or args is run, after prepare has put in place what it needs.
	compose string
	args    []string
	prepare func(*testing.T, *onemachine.Machine)
	after   func(*onemachine.Machine)
	code    api.Code
	says    []string
	// status is 3 unless set.
	status int
}

// other is a namespace of one service, with lines of its own.
func other(lines string) string {
	return "name: other\nservices:\n  app:\n    image: web:1\n" + lines
}

var badInputs = []bad{
	{name: "a key that we do not support", compose: other("    network_mode: host\n"),
		code: api.CodeComposeUnsupported, says: []string{"compose.yaml:5: services.app.network_mode", "→"}},
	{name: "a key that nobody has", compose: other("    imgae: x\n"),
		code: api.CodeComposeUnknown, says: []string{"compose.yaml:5: services.app.imgae", "image"}},
	{name: "a folder of the machine", compose: other("    volumes: [\"/etc:/data\"]\n"),
		code: api.CodeComposeUnsupported, says: []string{"compose.yaml:5: services.app.volumes", "→"}},
	{name: "not YAML", compose: "name: other\nservices: [\n", code: api.CodeComposeSyntax, says: []string{"compose.yaml:"}},
	{name: "a bad reference", compose: "name: other\nservices: {app: {image: \"web:!!\"}}\n",
		code: api.CodeImageBadReference, says: []string{"services.app.image", "web:!!"}},
	{name: "an image of a registry that is not there", compose: "name: other\nservices: {app: {image: \"absent:1\"}}\n",
		code: api.CodeRegistryDown, says: []string{"services.app.image", "index.docker.io", "→"}},
	{name: "a circle", compose: "name: other\nservices:\n  a: {image: \"web:1\", depends_on: [b]}\n  b: {image: \"web:1\", depends_on: [a]}\n",
		code: api.CodeDependencyCycle, says: []string{"a", "b"}},
	{name: "a port that somebody else has", compose: other("    ports: [\"8125:8080\"]\n"), prepare: squat, after: unsquat,
		code: api.CodePublishedTaken, says: []string{"8125", "python3", "→"}},
	{name: "a hostname of another namespace", compose: other("    x-ployz: {routes: [{host: site.test, port: 8080}]}\n"),
		code: api.CodeHostnameTaken, says: []string{"site.test", "namespace site", "→"}},
	{name: "a gateway port of another namespace", compose: other("    x-ployz: {routes: [{tcp: 7000, port: 9000}]}\n"),
		code: api.CodeHostnameTaken, says: []string{"7000", "namespace site"}},
	{name: "a stale plan", compose: site, args: []string{"deploy", "-f", "compose.yaml", "--plan", "0123456789abcdef"},
		code: api.CodePlanStale, says: []string{"→", "--plan "}},
	{name: "an unset variable", compose: "name: other\nservices: {app: {image: \"web:${TAG:?is needed}\"}}\n",
		code: api.CodeComposeVariable, says: []string{"TAG"}},
	{name: "a file that is not there", args: []string{"deploy", "-f", "nowhere.yaml"}, code: api.CodeComposeUnreadable, says: []string{"nowhere.yaml"}},
	{name: "a blob that is not its digest", args: []string{"image", "push", "layout"}, prepare: flipped,
		code: api.CodeDigestMismatch, says: []string{"sha256:"}},
	{name: "a truncated layer", args: []string{"image", "push", "layout"}, prepare: truncated, code: api.CodeLayerCorrupt},
	{name: "an entry that escapes", args: []string{"image", "push", "layout"}, prepare: escaping,
		code: api.CodeLayerEscape, says: []string{"../../../etc/evil"}},
	{name: "not an image", args: []string{"image", "push", "token"}, code: api.CodeImageBadArchive, says: []string{"→"}},
	{name: "a rollback to nowhere", args: []string{"rollback", "site", "--to", "99"}, code: api.CodeCommitAbsent, says: []string{"99"}},
	{name: "a namespace that is not there", args: []string{"rm", "nobody"}, code: api.CodeNamespaceAbsent, says: []string{"nobody"}},
	{name: "a flag that is not there", args: []string{"deploy", "--please"}, code: api.CodeUsage, says: []string{"--please", "--help"}, status: 2},
	{name: "a word that is no number", args: []string{"service", "scale", "site/web", "many"}, code: api.CodeUsage, says: []string{"many"}, status: 2},
}

func TestBadInputIsRefused(t *testing.T) {
	m := onemachine.Found(t)
	deploySite(m)
	for _, b := range badInputs {
		t.Run(b.name, func(t *testing.T) { b.refused(t, m.In(t)) })
	}
}

func (b bad) refused(t *testing.T, m *onemachine.Machine) {
	m.File("token", "s3cret")
	m.File("compose.yaml", b.compose)
	if b.prepare != nil {
		b.prepare(t, m)
	}
	args := b.args
	if args == nil {
		args = []string{"deploy", "-f", "compose.yaml"}
	}
	if b.status == 0 {
		b.status = 3
	}
	before := m.World()
	r := m.Ctl(args...)
	if diff := withoutBlobs(onemachine.Differences(before, m.World())); diff != "" {
		t.Errorf("it changed:\n%s", diff)
	}
	if r.Status != b.status {
		t.Errorf("exit status %d, want %d", r.Status, b.status)
	}
	for _, text := range append(b.says, string(b.code)) {
		if !strings.Contains(r.Err, text) {
			t.Errorf("it does not say %q", text)
		}
	}
	if t.Failed() {
		t.Logf("ployzctl %s:\n%s%s", strings.Join(args, " "), r.Out, r.Err)
	}
	if b.after != nil {
		b.after(m)
	}
	if get(m, "/").Status != 0 {
		t.Error("what was deployed before does not serve any more")
	}
}

// withoutBlobs leaves out the parts of a refused image that came over whole: they stay until a
// prune, so that a push that is repeated does not carry them again.
func withoutBlobs(differences string) string {
	var out strings.Builder
	for line := range strings.Lines(differences) {
		if !strings.HasPrefix(line, "+ ") || !strings.Contains(line, " ./images/blobs/") {
			out.WriteString(line)
		}
	}
	return out.String()
}

// squat lets somebody else have a port, until unsquat.
func squat(t *testing.T, m *onemachine.Machine) {
	m.Script("m1", "systemd-run --quiet --unit=squatter python3 -m http.server 8125")
	m.Eventually("the port to be taken", func() bool { return m.Try("m1", "curl", "-s", "-o", "/dev/null", "localhost:8125").Status == 0 })
}

func unsquat(m *onemachine.Machine) { m.Script("m1", "systemctl stop squatter") }

// unlike is an image with a layer that the machine has not seen: the last, and its file is named.
func unlike(t *testing.T, m *onemachine.Machine) *ocitest.Built {
	return m.Image("bad:1", map[string]string{"only/here": strings.Repeat(t.Name(), 1000)}).MustBuild()
}

// flipped is an image whose layer is, in one byte, not what its digest says.
func flipped(t *testing.T, m *onemachine.Machine) {
	b := unlike(t, m)
	layer := last(b.Manifest.Layers).Digest
	dir := m.Layout("layout", b)
	blob := bytes.Clone(b.Blobs[layer])
	blob[len(blob)/2] ^= 1
	if err := os.WriteFile(filepath.Join(dir, "blobs/sha256", layer.Encoded()), blob, 0o644); err != nil {
		t.Fatal(err)
	}
}

// truncated is an image whose layer ends early, under the digest that it then has.
func truncated(t *testing.T, m *onemachine.Machine) {
	b := unlike(t, m)
	layer := last(b.Manifest.Layers)
	cut := b.Put(b.Blobs[layer.Digest][:layer.Size/2], layer.MediaType)
	manifest := bytes.ReplaceAll(b.Blobs[b.Digest], []byte(layer.Digest), []byte(cut.Digest))
	manifest = bytes.ReplaceAll(manifest, []byte(sizeOf(layer)), []byte(sizeOf(cut)))
	b.Digest = b.Put(manifest, b.MediaType).Digest
	m.Layout("layout", b)
}

func last(layers []v1.Descriptor) v1.Descriptor { return layers[len(layers)-1] }

func sizeOf(d v1.Descriptor) string { return `"size":` + itoa(d.Size) }

// escaping is an image with an entry outside of its root.
func escaping(_ *testing.T, m *onemachine.Machine) {
	img := m.Image("bad:1", nil)
	img.Layers = append(img.Layers, ocitest.Layer{Entries: []ocitest.Entry{ocitest.File("../../../etc/evil", 0o644, "evil")}})
	m.Layout("layout", img.MustBuild())
}

// TestNeverReady deploys a version that never gets ready: the old one serves on.
func TestNeverReady(t *testing.T) {
	m := onemachine.Found(t)
	m.DeployTown()
	load := m.Bear(onemachine.Outside)
	before := m.World()
	broken := strings.ReplaceAll(strings.ReplaceAll(onemachine.Town, `VERSION: "1"`, `VERSION: "1", READY: never`), "timeout: 30s", "timeout: 3s")
	r := m.Ctl("deploy", "-f", m.File("compose.yaml", broken))
	if diff := onemachine.Differences(before, m.World()); diff != "" {
		t.Errorf("it left:\n%s", diff)
	}
	if r.Status != 4 || !strings.Contains(r.Err, string(api.CodeNotReady)) || !strings.Contains(r.Err, "that is what READY asked for") || !strings.Contains(r.Err, "503") {
		t.Errorf("exit status %d\n%s%s", r.Status, r.Out, r.Err)
	}
	load.PutDown()
}

// TestSecondDeploy runs two deploys of one namespace at once.
func TestSecondDeploy(t *testing.T) {
	m := onemachine.Found(t)
	deploySite(m)
	first, cancel := m.Command("deploy", "-f", m.File("slow.yaml", strings.ReplaceAll(site, `VERSION: "1"`, `VERSION: "1", READY: never`)))
	defer cancel()
	var said bytes.Buffer
	first.Stderr = &said
	before := m.World()
	if err := first.Start(); err != nil {
		t.Fatal(err)
	}
	var running []api.OperationSummary
	m.Eventually("the first to run", func() bool {
		m.JSON(&running, "operation", "ls", "-n", "1")
		return running[0].State == "running"
	})
	r := m.Ctl("deploy", "-f", m.File("compose.yaml", version("2")))
	for _, text := range []string{string(api.CodeScopeBusy), running[0].Operation, "by root", "since 20", "ployzctl operation watch " + running[0].Operation} {
		if r.Status != 3 || !strings.Contains(r.Err, text) {
			t.Errorf("exit status %d, want %q in\n%s%s", r.Status, text, r.Out, r.Err)
		}
	}
	if err := first.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	first.Wait() // its exit status is looked at below
	if status := first.ProcessState.ExitCode(); status != 4 || !strings.Contains(said.String(), string(api.CodeCancelled)) {
		t.Errorf("the first, cancelled: exit status %d\n%s", status, said.String())
	}
	if diff := onemachine.Differences(before, m.World()); diff != "" {
		t.Errorf("they left:\n%s", diff)
	}
}

// TestStalePlan binds a deploy to a preview, and the world moves in between.
func TestStalePlan(t *testing.T) {
	m := onemachine.Found(t)
	deploySite(m)
	var plan, same api.Plan
	m.JSON(&plan, "preview", "-f", m.File("compose.yaml", version("2")))
	m.JSON(&same, "preview", "-f", "compose.yaml")
	if plan.Digest == "" || plan.Digest != same.Digest || len(plan.Changes) == 0 {
		t.Errorf("two previews of the same: %s and %s, changes %+v", plan.Digest, same.Digest, plan.Changes)
	}
	m.Must("service", "scale", "site/web", "2")
	before := m.World()
	if out := m.Deploy(version("2"), "--plan", plan.Digest); out.Outcome != api.Refused || out.Error.Code != api.CodePlanStale {
		t.Errorf("with the old plan: %s %s", out.Outcome, onemachine.Said(out.Error))
	}
	if diff := onemachine.Differences(before, m.World()); diff != "" {
		t.Errorf("it changed:\n%s", diff)
	}
	m.JSON(&plan, "preview", "-f", "compose.yaml")
	m.MustDeploy(version("2"), "--plan", plan.Digest)
}

// TestDaemonAway asks a machine whose daemon is stopped, and one as somebody who may not.
func TestDaemonAway(t *testing.T) {
	m := onemachine.Found(t)
	deploySite(m)
	asNobody := []string{"env", "HOME=/", "setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups", "ployzctl", "service", "ls"}
	if r := m.Try("m1", asNobody...); r.Status != 3 || !strings.Contains(r.Err, string(api.CodePermission)) || !strings.Contains(r.Err, "usermod -aG ployz nobody") {
		t.Errorf("as nobody: %+v", r)
	}
	m.Script("m1", "useradd --groups ployz deployer")
	if r := m.Try("m1", "env", "HOME=/", "runuser", "-u", "deployer", "--", "ployzctl", "service", "ls"); r.Status != 0 || !strings.Contains(r.Out, "site/web") {
		t.Errorf("as a member of the group: %+v", r)
	}
	m.Script("m1", "systemctl stop ployzd.socket ployzd.service")
	r := m.Try("m1", "ployzctl", "service", "ls")
	if r.Status != 3 || !strings.Contains(r.Err, string(api.CodeDaemonUnreachable)) || !strings.Contains(r.Err, "systemctl start ployzd") {
		t.Errorf("without the daemon: %+v", r)
	}
	if r := m.Ctl("deploy", "-f", m.File("compose.yaml", site)); r.Status != 3 || !strings.Contains(r.Err, string(api.CodeDaemonUnreachable)) {
		t.Errorf("a deploy without the daemon: %+v", r)
	}
	wantPage(t, m, "/", "version 1")
	m.Script("m1", "systemctl start ployzd")
	awaitUp(t, m)
}

// TestDiskFull gives the images a file system that is too small.
func TestDiskFull(t *testing.T) {
	m := onemachine.Found(t)
	m.Script("m1", `systemctl stop ployzd.socket ployzd.service; mount -t tmpfs -o size=330m tmpfs /var/lib/ployz/images; systemctl start ployzd.socket ployzd.service`)
	deploySite(m)
	// It is small as it travels, and grows when it is unpacked.
	img := m.Image("large:1", nil)
	for i := range 3 {
		zeros := strings.Repeat("\x00", 50<<20)
		img.Layers = append(img.Layers, ocitest.Files(map[string]string{"zeros" + itoa(int64(i)): zeros}))
	}
	layout := m.Layout("large", img.MustBuild())
	before := m.World()
	r := m.Ctl("image", "push", layout)
	if r.Status != 3 || !strings.Contains(r.Err, string(api.CodeImageDiskFull)) {
		t.Errorf("pushing: exit status %d\n%s%s", r.Status, r.Out, r.Err)
	}
	if diff := onemachine.Differences(before, m.World()); diff != "" {
		t.Errorf("it left:\n%s", diff)
	}
	wantPage(t, m, "/", "version 1")
	m.MustDeploy(version("2"))
	wantPage(t, m, "/", "version 2")
}
