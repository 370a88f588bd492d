package runc

import (
	"bytes"
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"filippo.io/age"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/runtime"
	"github.com/ployz/ployz/node/runtime/runc/boot"
	"github.com/ployz/ployz/node/runtime/runtimetest"
	"github.com/ployz/ployz/units"
)

// launch prepares and starts an instance and takes it away at the end of the test.
func launch(t *testing.T, r *Runtime, image runtime.Image, spec runtime.Spec) {
	t.Helper()
	arrange(t, r, image, spec)
	if err := r.Start(t.Context(), spec.ID); err != nil {
		t.Fatal(err)
	}
}

func arrange(t *testing.T, r *Runtime, image runtime.Image, spec runtime.Spec) {
	t.Helper()
	t.Cleanup(func() {
		ctx := context.Background()
		if err := r.Stop(ctx, spec.ID); err != nil {
			t.Errorf("clean-up: %v", err)
		}
		if err := r.Remove(ctx, spec.ID); err != nil {
			t.Errorf("clean-up: %v", err)
		}
	})
	if err := r.Prepare(t.Context(), spec, image, addresses()); err != nil {
		t.Fatal(err)
	}
}

// eventually polls until the condition holds.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for !holds() {
		if time.Now().After(deadline) {
			t.Fatalf("not in 20 s: %s", what)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func look(t *testing.T, r *Runtime, id string) runtime.Observation {
	t.Helper()
	o, err := r.Inspect(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// ask runs the workload program inside and returns what it wrote.
func ask(t *testing.T, r *Runtime, id string, words ...string) string {
	t.Helper()
	var out bytes.Buffer
	status, err := r.Exec(t.Context(), id, runtime.Command{Args: append([]string{"/program"}, words...), Stdout: &out, Stderr: &out})
	if err != nil || status != 0 {
		t.Fatalf("exec %v: status %d, %v, %s", words, status, err, &out)
	}
	return out.String()
}

func TestWhatAnInstanceSees(t *testing.T) {
	r, image := machine(t)
	spec := runtimetest.Spec(t, "", "serve")
	spec.Process.Env = map[string]string{"COLOUR": "blue"}
	spec.Process.ExtraHosts = map[string]string{"printer": "10.9.9.9"}
	spec.Files = []runtime.FileContent{{Target: "/etc/app.conf", Plain: []byte("port = 80\n")}}
	spec.Tmpfs = []api.Tmpfs{{Target: "/scratch", SizeBytes: 1 << 20}}
	spec.Security.ReadOnly = true
	launch(t, r, image, spec)
	got := ask(t, r, spec.ID, "env=COLOUR", "env=HOSTNAME", "cat=/etc/app.conf", "cat=/etc/hosts", "cat=/etc/hostname", "cat=/etc/resolv.conf",
		"write=/etc/no", "write=/scratch/yes", "write=/etc/app.conf", "id")
	for _, want := range []string{
		"COLOUR=blue\n", "HOSTNAME=web-0\n", "port = 80\n", "10.9.9.9\tprinter\n", "\nweb-0\n", "nameserver 10.101.1.1\n", "search shop.ployz.internal",
		"/etc/no: error\n", "/etc/app.conf: error\n", "CapEff: 00000000a80425fb\n", "NoNewPrivs: 1\n", "Seccomp: 2\n", "uid 0 gid 0\n",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in:\n%s", want, got)
		}
	}
	if strings.Contains(got, "/scratch/yes: error") {
		t.Error("the memory file system is not writable")
	}
}

// TestMountedVolume: what two instances see of one volume, and what each may do there.
func TestMountedVolume(t *testing.T) {
	r, image := machine(t)
	source := folder(t)
	if err := os.Chmod(source, 0o755); err != nil {
		t.Fatal(err)
	}
	writer, reader := runtimetest.Spec(t, "-w", "serve"), runtimetest.Spec(t, "-r", "serve")
	writer.Tmpfs = []api.Tmpfs{{Target: "/srv/data/scratch"}}
	writer.Mounts = []runtime.Mount{{Volume: "v1", Source: source, Target: "/srv/data"}}
	reader.Mounts = []runtime.Mount{{Volume: "v1", Source: source, Target: "/srv/data", ReadOnly: true}}
	writer.Security.ReadOnly = true // a volume is written also where the root is not
	launch(t, r, image, writer)
	launch(t, r, image, reader)
	got := ask(t, r, writer.ID, "grow=/srv/data/rows", "grow=/srv/data/rows", "write=/srv/data/scratch/x", "write=/etc/no")
	if got != "size 1\nsize 2\n/etc/no: error\n" {
		t.Errorf("the writer: %s", got)
	}
	if got := ask(t, r, reader.ID, "cat=/srv/data/rows", "write=/srv/data/rows", "write=/srv/data/new"); got != "xx/srv/data/rows: error\n/srv/data/new: error\n" {
		t.Errorf("the reader: %s", got)
	}
	if got := ask(t, r, writer.ID, "cat=/proc/self/mountinfo"); !strings.Contains(mountLine(got, "/srv/data"), "rw,nosuid,nodev") || strings.Contains(mountLine(got, "/srv/data"), "shared:") {
		t.Errorf("it is mounted as %q", mountLine(got, "/srv/data"))
	}
	if err := r.Stop(t.Context(), writer.ID); err != nil {
		t.Fatal(err)
	}
	if err := r.Remove(t.Context(), writer.ID); err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(filepath.Join(source, "rows")); err != nil || string(text) != "xx" {
		t.Errorf("once the writer is gone the volume holds %q, %v", text, err)
	}
}

// mountLine is the line of a mount table about one place.
func mountLine(table, point string) string {
	for line := range strings.Lines(table) {
		if f := strings.Fields(line); len(f) > 5 && f[4] == point {
			return line
		}
	}
	return ""
}

// seal makes this machine's key, and returns what seals to it.
func seal(t *testing.T, r *Runtime) func(string) []byte {
	t.Helper()
	key, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(r.State, boot.KeyFile)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("# a comment\n"+key.String()+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.Remove(path) })
	return func(plain string) []byte {
		var b bytes.Buffer
		w, err := age.Encrypt(&b, key.Recipient())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, plain); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
}

func TestSecretsAreOpenedInMemoryOnly(t *testing.T) {
	r, image := machine(t)
	sealed := seal(t, r)
	spec := runtimetest.Spec(t, "", "env=TOKEN", "serve")
	word := "hunter" + itoa(time.Now().Nanosecond())
	spec.SecretEnv = map[string]runtime.SealedValue{"TOKEN": {Sealed: sealed(word + "-env"), Fingerprint: "f"}}
	spec.Files = []runtime.FileContent{{Target: "/run/secrets/key", Sealed: sealed(word + "-file"), Fingerprint: "g", UID: 33, GID: 33}}
	launch(t, r, image, spec)
	if got := ask(t, r, spec.ID, "cat=/run/secrets/key", "env=TOKEN"); got != word+"-fileTOKEN="+word+"-env\n" {
		t.Fatalf("inside: %q", got)
	}
	if out, err := exec.Command("grep", "-rl", word, r.State, testRun).Output(); err == nil && !onlyRamfs(string(out)) {
		t.Fatalf("plain text on disk in %s", out)
	}
	opened := filepath.Join(boot.SecretsDir(r.Run, spec.ID), secretName(0))
	if out, err := exec.Command("stat", "-f", "-c", "%T", opened).Output(); err != nil || strings.TrimSpace(string(out)) != "ramfs" {
		t.Fatalf("opened on %q, %v", out, err)
	}
	if out, err := exec.Command("stat", "-c", "%u %g %a", opened).Output(); err != nil || strings.TrimSpace(string(out)) != "33 33 400" {
		t.Fatalf("owner and mode %q, %v", out, err)
	}
	if err := r.Stop(t.Context(), spec.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(boot.SecretsDir(r.Run, spec.ID)); !os.IsNotExist(err) {
		t.Fatalf("still open after Stop: %v", err)
	}
}

func onlyRamfs(paths string) bool {
	for _, path := range strings.Fields(paths) {
		if !strings.HasPrefix(path, filepath.Join(testRun, "secrets")+"/") {
			return false
		}
	}
	return true
}

func TestSecretSealedToAnotherMachine(t *testing.T) {
	r, image := machine(t)
	old := seal(t, r)("x")
	seal(t, r) // the machine's key is another one now
	spec := runtimetest.Spec(t, "", "serve")
	spec.SecretEnv = map[string]runtime.SealedValue{"TOKEN": {Sealed: old, Fingerprint: "f"}}
	arrange(t, r, image, spec)
	err := r.Start(t.Context(), spec.ID)
	if api.CodeOf(err) != api.CodeStartFailed || !strings.Contains(strings.Join(api.AsError(err).Log, "\n"), "secret TOKEN cannot be opened") {
		t.Fatal(err)
	}
}

func TestStartFailureSaysWhy(t *testing.T) {
	r, image := machine(t)
	spec := runtimetest.Spec(t, "")
	spec.Process.Entrypoint = []string{"/no/such/program"}
	arrange(t, r, image, spec)
	err := r.Start(t.Context(), spec.ID)
	if api.CodeOf(err) != api.CodeStartFailed || !strings.Contains(err.Error(), "/no/such/program") {
		t.Fatal(err)
	}
	if o := look(t, r, spec.ID); o.Boot || o.State == runtime.StateRunning {
		t.Fatalf("%+v", o)
	}
}

func TestRestartsByItself(t *testing.T) {
	r, image := machine(t)
	spec := runtimetest.Spec(t, "", "grow=/count", "serve")
	spec.Restart = api.Restart{Policy: "always", Delay: api.Duration(10 * time.Millisecond)}
	launch(t, r, image, spec)
	first := look(t, r, spec.ID)
	if err := exec.Command("kill", "-KILL", itoa(first.MainPID)).Run(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "another process runs", func() bool {
		o := look(t, r, spec.ID)
		return o.State == runtime.StateRunning && o.MainPID != 0 && o.MainPID != first.MainPID
	})
	o := look(t, r, spec.ID)
	if o.Restarts != 1 || len(o.Drift) != 0 {
		t.Fatalf("%+v", o)
	}
	// The writable layer is the instance's, not the process's.
	if got := ask(t, r, spec.ID, "grow=/count"); got != "size 3\n" {
		t.Fatalf("the writable layer did not survive: %q", got)
	}
}

func TestStopsADeafProcessInTime(t *testing.T) {
	r, image := machine(t)
	spec := runtimetest.Spec(t, "", "serve")
	spec.Process.StopGrace = api.Duration(300 * time.Millisecond)
	spec.Process.StopSignal = "SIGUSR2" // which the program waits for as little as any first process does
	launch(t, r, image, spec)
	begin := time.Now()
	if err := r.Stop(t.Context(), spec.ID); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(begin); took < 300*time.Millisecond || took > 10*time.Second {
		t.Fatalf("took %v", took)
	}
	if o := look(t, r, spec.ID); o.State != runtime.StateStopped {
		t.Fatalf("%+v", o)
	}
}

// TestRebootWithoutDaemon takes away what a reboot takes away, and starts the unit as boot does.
func TestRebootWithoutDaemon(t *testing.T) {
	r, image := machine(t)
	spec := runtimetest.Spec(t, "", "serve")
	spec.SecretEnv = map[string]runtime.SealedValue{"TOKEN": {Sealed: seal(t, r)("hunter2"), Fingerprint: "f"}}
	launch(t, r, image, spec)
	ask(t, r, spec.ID, "grow=/kept")
	name := units.WorkloadService(spec.ID)
	for _, argv := range [][]string{
		{"systemctl", "stop", name}, {"umount", filepath.Join(r.dir(spec.ID), "rootfs")}, {"umount", filepath.Join(testRun, "netns", spec.ID)},
		{"rm", "-rf", boot.SecretsDir(r.Run, spec.ID), r.runcRoot()}, {"systemctl", "start", name},
	} {
		if out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", argv, err, out)
		}
	}
	o := look(t, r, spec.ID)
	if o.State != runtime.StateRunning || !o.Boot || len(o.Drift) != 0 {
		t.Fatalf("%+v", o)
	}
	if got := ask(t, r, spec.ID, "grow=/kept", "env=TOKEN"); got != "size 2\nTOKEN=hunter2\n" {
		t.Fatalf("%q", got)
	}
}

func TestDriftIsReportedAndNothingTouched(t *testing.T) {
	r, image := machine(t)
	spec := runtimetest.Spec(t, "", "serve")
	launch(t, r, image, spec)
	before := look(t, r, spec.ID)
	unitFile := "/etc/systemd/system/" + units.WorkloadService(spec.ID)
	appendTo(t, unitFile, "# by hand\n")
	appendTo(t, filepath.Join(r.dir(spec.ID), boot.ConfigFile), " ")
	if err := os.Remove(filepath.Join(r.dir(spec.ID), "files/hosts")); err != nil {
		t.Fatal(err)
	}
	o := look(t, r, spec.ID)
	for _, want := range []string{"its unit file was changed", "config.json was changed", "files/hosts is missing", "systemd holds an older text of its unit"} {
		if !slices.Contains(o.Drift, want) {
			t.Errorf("no %q in %q", want, o.Drift)
		}
	}
	if o.State != runtime.StateRunning || o.MainPID != before.MainPID {
		t.Fatalf("before %+v, after %+v", before, o)
	}
}

func appendTo(t *testing.T, path, text string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString(text); err != nil {
		t.Fatal(err)
	}
}

func TestDamagedAndForeignFolders(t *testing.T) {
	r, image := machine(t)
	spec := runtimetest.Spec(t, "", "serve")
	launch(t, r, image, spec)
	foreign := r.dir("somebody-elses")
	if err := os.MkdirAll(foreign, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(foreign) })
	mark := filepath.Join(r.dir(spec.ID), instanceFile)
	whole, err := os.ReadFile(mark)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.WriteFile(mark, whole, 0o600) })
	for _, damage := range []string{"", "{", `{"spec":{"ID":"other"}}`} {
		if err := os.WriteFile(mark, []byte(damage), 0o600); err != nil {
			t.Fatal(err)
		}
		all, err := r.List(t.Context())
		if err != nil || len(all) != 1 || all[0].ID != spec.ID || all[0].State != runtime.StateUnknown || len(all[0].Drift) != 1 {
			t.Fatalf("with %q: %+v, %v", damage, all, err)
		}
	}
	if err := os.Remove(mark); err != nil {
		t.Fatal(err)
	}
	if o := look(t, r, spec.ID); o.State != runtime.StateRunning || len(o.Drift) != 1 {
		t.Fatalf("without its mark: %+v", o)
	}
}

func TestTerminal(t *testing.T) {
	r, image := machine(t)
	spec := runtimetest.Spec(t, "", "serve")
	launch(t, r, image, spec)
	sizes := make(chan runtime.Size, 1)
	sizes <- runtime.Size{Columns: 101, Rows: 33}
	input, typing := io.Pipe()
	defer typing.Close()
	var out safeBuffer
	go func() {
		// The size must have arrived when the program asks, which it does after one line.
		for !strings.Contains(out.String(), "ready") {
			time.Sleep(5 * time.Millisecond)
		}
		typing.Write([]byte("typed\r\x04"))
	}()
	status, err := r.Exec(t.Context(), spec.ID, runtime.Command{
		Args: []string{"/program", "say=ready", "echo", "tty", "exit=5"}, TTY: true, Stdin: input, Stdout: &out, Resize: sizes,
	})
	if err != nil || status != 5 || !strings.Contains(out.String(), "terminal 101x33") || !strings.Contains(out.String(), "typed\r\ntyped\r\n") {
		t.Fatalf("status %d, %v, %q", status, err, out.String())
	}
}

func TestExecErrors(t *testing.T) {
	r, image := machine(t)
	spec := runtimetest.Spec(t, "", "serve")
	launch(t, r, image, spec)
	_, err := r.Exec(t.Context(), spec.ID, runtime.Command{Args: []string{"/no/such"}})
	if api.CodeOf(err) != api.CodeCommandAbsent || !strings.Contains(err.Error(), "/no/such") {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	_, err = r.Exec(ctx, spec.ID, runtime.Command{Args: []string{"/program", "serve"}})
	if api.CodeOf(err) != api.CodeExecFailed {
		t.Fatal(err)
	}
	eventually(t, "the command is gone from the instance", func() bool {
		stats, err := r.Stats(t.Context(), spec.ID)
		if err != nil {
			t.Fatal(err)
		}
		return stats.PIDs == 1
	})
}

func TestUnsupportedIsRefused(t *testing.T) {
	r, image := machine(t)
	spec := runtimetest.Spec(t, "", "serve")
	spec.Security.Init = true
	if err := r.Prepare(t.Context(), spec, image, addresses()); api.CodeOf(err) != api.CodeRuntimeUnsupported {
		t.Fatal(err)
	}
	spec.Security.Init = false
	spec.Resources.MemoryBytes = 1 << 30
	r.Controllers = func() ([]string, error) { return []string{"pids"}, nil }
	if err := r.Prepare(t.Context(), spec, image, addresses()); api.CodeOf(err) != api.CodeControllerMissing {
		t.Fatal(err)
	}
	if _, err := os.Stat(r.dir(spec.ID)); !os.IsNotExist(err) {
		t.Fatalf("a refused Prepare left something: %v", err)
	}
}
