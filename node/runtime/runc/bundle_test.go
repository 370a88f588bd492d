package runc

import (
	"encoding/json"
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/runtime"
)

var update = flag.Bool("update", false, "rewrite the goldens")

// plain is a service that says no more than it must, full one that says everything.
func plain() Input {
	return Input{
		Spec:      runtime.Spec{ID: "web-0-x7k2", Namespace: "shop", NamespaceID: 7, Service: "web", Slot: "web-0"},
		Image:     runtime.Image{Digest: "sha256:00", Layers: []string{"/layers/a", "/layers/b"}, Config: runtime.ImageConfig{Entrypoint: []string{"/docker-entrypoint.sh"}, Command: []string{"nginx"}, Env: []string{"NGINX=1.27"}, StopSignal: "SIGQUIT"}},
		Addresses: runtime.Addresses{V4: netip.MustParseAddr("10.101.1.7"), V6: netip.MustParseAddr("fd00:1:2:3::7")},
		Identity:  "0123", Dir: "/var/lib/ployz/workloads/web-0-x7k2", Run: "/run/ployz",
		Nameservers: []string{"10.101.1.1", "fd00:1:2:3::1"}, Domain: "ployz.internal",
		Seccomp: func(*specs.Spec) (*specs.LinuxSeccomp, error) {
			return &specs.LinuxSeccomp{DefaultAction: "SCMP_ACT_ERRNO"}, nil
		},
	}
}

func full() Input {
	in := plain()
	in.Spec.Process = api.Process{
		Command: []string{"serve", "--port=80"}, Env: map[string]string{"B": "2", "A": "1", "NGINX": "mine"}, WorkDir: "/srv", Hostname: "shopfront",
		ExtraHosts: map[string]string{"printer": "10.9.9.9"}, StopSignal: "term", StopGrace: api.Duration(3 * time.Second),
	}
	in.Spec.SecretEnv = map[string]runtime.SealedValue{"TOKEN": {Sealed: []byte("sealed"), Fingerprint: "f"}}
	in.Spec.Files = []runtime.FileContent{
		{Target: "/etc/app.conf", Plain: []byte("port = 80\n"), Mode: 0o640, UID: 33, GID: 33},
		{Target: "/run/secrets/key", Sealed: []byte("sealed"), Fingerprint: "g"},
	}
	in.Spec.Tmpfs = []api.Tmpfs{{Target: "/tmp", SizeBytes: 1 << 20}, {Target: "/cache", Mode: 0o700}}
	in.Spec.Mounts = []runtime.Mount{
		{Volume: "v1", Source: "/var/lib/ployz/pool/volumes/shop.data/data", Target: "/tmp/data"},
		{Volume: "v2", Source: "/var/lib/ployz/pool/volumes/shop.uploads/data", Target: "/uploads", ReadOnly: true},
	}
	in.Spec.Resources = api.Resources{CPUs: 1.5, MemoryBytes: 1 << 28, PIDs: 64, IOWeight: 200}
	in.Spec.Restart = api.Restart{Policy: "on-failure", Delay: api.Duration(time.Second), MaxAttempts: 3}
	in.Spec.Security = api.Security{
		CapAdd: []string{"net_admin"}, CapDrop: []string{"ALL"}, ReadOnly: true, NewPrivileges: true,
		Devices: []api.Device{{Source: "/dev/fuse", Permissions: "rw"}},
		Ulimits: map[string]api.Ulimit{"nofile": {Soft: 1024, Hard: 4096}}, Sysctls: map[string]string{"net.core.somaxconn": "512"},
	}
	in.User = specs.User{UID: 33, GID: 33, AdditionalGids: []uint32{4}}
	in.Devices = []specs.LinuxDevice{{Path: "/dev/fuse", Type: "c", Major: 10, Minor: 229}}
	return in
}

func testRuntime() *Runtime { return New() }

func TestGoldens(t *testing.T) {
	for name, in := range map[string]Input{"plain": plain(), "full": full()} {
		bundle, err := in.Bundle()
		if err != nil {
			t.Fatal(err)
		}
		text, err := json.MarshalIndent(bundle, "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		unit, err := testRuntime().unit(in)
		if err != nil {
			t.Fatal(err)
		}
		compare(t, name+".config.json", string(text)+"\n")
		compare(t, name+".service", unit.Text)
		compare(t, name+".hosts", in.hosts())
		compare(t, name+".resolv.conf", in.resolvConf())
	}
}

func compare(t *testing.T, name, got string) {
	t.Helper()
	golden := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs from its golden (go test ./node/runtime/runc -update):\n%s", name, got)
	}
}

func TestArgsAsInDocker(t *testing.T) {
	image := runtime.ImageConfig{Entrypoint: []string{"e"}, Command: []string{"c"}}
	for _, tc := range []struct {
		process api.Process
		image   runtime.ImageConfig
		want    string
	}{
		{api.Process{}, image, "e c"},
		{api.Process{Command: []string{"x"}}, image, "e x"},
		{api.Process{Command: []string{}}, image, "e"},
		{api.Process{Entrypoint: []string{"x"}}, image, "x"},
		{api.Process{Entrypoint: []string{}, Command: []string{"y"}}, image, "y"},
		{api.Process{Entrypoint: []string{"x"}, Command: []string{"y"}}, image, "x y"},
		{api.Process{}, runtime.ImageConfig{}, ""},
	} {
		in := plain()
		in.Spec.Process, in.Image.Config = tc.process, tc.image
		args, err := in.args()
		if strings.Join(args, " ") != tc.want || (err == nil) != (tc.want != "") {
			t.Errorf("%+v on %+v: %v, %v, want %q", tc.process, tc.image, args, err, tc.want)
		}
	}
}

func TestRefusals(t *testing.T) {
	for name, bend := range map[string]func(*Input){
		"capability":     func(in *Input) { in.Spec.Security.CapAdd = []string{"CAP_FLY"} },
		"cap drop":       func(in *Input) { in.Spec.Security.CapDrop = []string{"x"} },
		"sysctl":         func(in *Input) { in.Spec.Security.Sysctls = map[string]string{"kernel.panic": "1"} },
		"ulimit":         func(in *Input) { in.Spec.Security.Ulimits = map[string]api.Ulimit{"fun": {}} },
		"no command":     func(in *Input) { in.Image.Config = runtime.ImageConfig{} },
		"relative mount": func(in *Input) { in.Spec.Files = []runtime.FileContent{{Target: "etc/x"}} },
		"climbing mount": func(in *Input) { in.Spec.Files = []runtime.FileContent{{Target: "/etc/../x"}} },
		"same place":     func(in *Input) { in.Spec.Files = []runtime.FileContent{{Target: "/x"}, {Target: "/x"}} },
		"same as volume": func(in *Input) {
			in.Spec.Mounts = []runtime.Mount{{Volume: "v1", Source: "/v", Target: "/x"}}
			in.Spec.Files = []runtime.FileContent{{Target: "/x"}}
		},
		"root":       func(in *Input) { in.Spec.Tmpfs = []api.Tmpfs{{Target: "/"}} },
		"signal":     func(in *Input) { in.Spec.Process.StopSignal = "SIGNOTHING" },
		"line break": func(in *Input) { in.Spec.Service = "a\nExecStart=/bin/sh" },
	} {
		in := plain()
		bend(&in)
		_, bundleErr := in.Bundle()
		_, unitErr := testRuntime().unit(in)
		found := false
		for _, err := range []error{bundleErr, unitErr, in.checkTargets()} {
			if err != nil && api.CodeOf(err) == api.CodeRuntimeInvalid {
				found = true
			}
		}
		if !found {
			t.Errorf("%s: bundle %v, unit %v", name, bundleErr, unitErr)
		}
	}
}

func TestLimitsNeedControllers(t *testing.T) {
	spec := runtime.Spec{ID: "a", Resources: api.Resources{MemoryBytes: 1, PIDs: 1}}
	if err := checkLimits(spec, []string{"memory", "pids"}); err != nil {
		t.Fatal(err)
	}
	err := checkLimits(spec, []string{"memory"})
	if api.CodeOf(err) != api.CodeControllerMissing || !strings.Contains(err.Error(), "TasksMax=1") {
		t.Fatal(err)
	}
}

func TestCapabilities(t *testing.T) {
	for _, tc := range []struct {
		add, drop, want []string
	}{
		{nil, nil, defaultCapabilities},
		{nil, []string{"ALL"}, nil},
		{[]string{"CAP_BPF"}, []string{"all"}, []string{"CAP_BPF"}},
		{[]string{"ALL"}, nil, slices.Sorted(slices.Values(allCapabilities))},
	} {
		in := plain()
		in.Spec.Security.CapAdd, in.Spec.Security.CapDrop = tc.add, tc.drop
		caps, err := in.capabilities()
		if err != nil || !slices.Equal(caps.Bounding, tc.want) || !slices.Equal(caps.Effective, tc.want) {
			t.Errorf("+%v -%v: %v, %v", tc.add, tc.drop, caps, err)
		}
		in.User.UID = 1000
		if caps, _ := in.capabilities(); len(caps.Effective) != 0 {
			t.Errorf("+%v -%v: another user may use %v", tc.add, tc.drop, caps.Effective)
		}
	}
	caps := &specs.LinuxCapabilities{Bounding: []string{"CAP_CHOWN", "CAP_SYS_RESOURCE"}}
	if got := withheld(caps, 1); !slices.Equal(got, []string{"CAP_SYS_RESOURCE"}) {
		t.Errorf("withheld %v", got)
	}
}

func TestSeccompIsDockers(t *testing.T) {
	in := plain()
	in.Seccomp = defaultSeccomp
	bundle, err := in.Bundle()
	if err != nil {
		t.Fatal(err)
	}
	allowed := map[string]bool{}
	for _, rule := range bundle.Linux.Seccomp.Syscalls {
		for _, name := range rule.Names {
			allowed[name] = allowed[name] || rule.Action == specs.ActAllow && len(rule.Args) == 0
		}
	}
	if !allowed["openat"] || allowed["mount"] || allowed["bpf"] || allowed["kexec_load"] {
		t.Fatalf("openat %t, mount %t, bpf %t", allowed["openat"], allowed["mount"], allowed["bpf"])
	}
	in.Spec.Security.SeccompUnconfined = true
	if bundle, err = in.Bundle(); err != nil || bundle.Linux.Seccomp != nil {
		t.Fatal("an unconfined instance has a filter", err)
	}
}

func TestParseEntry(t *testing.T) {
	line, err := parseEntry([]byte(`{"__REALTIME_TIMESTAMP":"1700000000000001","MESSAGE":[104,105,255],"PLOYZ_SERVICE":"web"}`))
	if err != nil || line.Message != "hi\xff" || line.Service != "web" || line.Time.UnixMicro() != 1700000000000001 {
		t.Fatalf("%+v, %v", line, err)
	}
	for _, bad := range []string{"", "{", `{"MESSAGE":"x"}`, `{"__REALTIME_TIMESTAMP":"1","MESSAGE":{}}`} {
		if _, err := parseEntry([]byte(bad)); api.CodeOf(err) != api.CodeLogsFailed {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestNetworkBytes(t *testing.T) {
	file := filepath.Join(t.TempDir(), "dev")
	text := "Inter-| Receive | Transmit\n face |bytes\n    lo: 9 9 0 0 0 0 0 0 9 9 0\n  eth0: 100 1 0 0 0 0 0 0 250 2 0 0 0 0 0 0\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if rx, tx := networkBytes(file); rx != 100 || tx != 250 {
		t.Fatalf("rx %d, tx %d", rx, tx)
	}
}
