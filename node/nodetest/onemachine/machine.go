package onemachine

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ployz/ployz/cmd/ployzctl/dev"
	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/nodetest/labtest"
	"github.com/ployz/ployz/node/nodetest/load"
	"github.com/ployz/ployz/node/nodetest/testenv"
)

// commandLimit ends a ployzctl that hangs.
const commandLimit = 3 * time.Minute

// AgentInside is where Start puts the agent in the machine.
const AgentInside = "/var/lib/agent"

// Machine is one machine of a lab, m1 unless At says otherwise, and the means to use it.
type Machine struct {
	*labtest.Lab
	// Host is its name in the lab.
	Host  string
	t     testing.TB
	tools *tools
	// dir is for files that commands read.
	dir string
}

// tools are made once per test binary: the package's ployzctl and the agent.
type tools struct{ ctl, agent string }

var made = sync.OnceValues(makeTools)

func makeTools() (*tools, error) {
	dir, err := os.MkdirTemp("", "ployz-onemachine-")
	if err != nil {
		return nil, err
	}
	t := &tools{ctl: filepath.Join(dir, "usr/bin/ployzctl"), agent: filepath.Join(dir, "agent")}
	unpack := exec.Command("sh", "-euc", `dpkg-deb --fsys-tarfile "$0" | tar -x -C "$1" ./usr/bin/ployzctl`, testenv.DebPath(), dir)
	build := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", t.agent, "./node/nodetest/agent")
	build.Dir = testenv.Repo()
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	for _, cmd := range []*exec.Cmd{unpack, build} {
		if out, err := cmd.CombinedOutput(); err != nil {
			return nil, errors.Join(err, errors.New(string(out)))
		}
	}
	return t, nil
}

// RemoveTools removes what Start made once; a TestMain calls it at the end.
func RemoveTools() {
	if t, err := made(); err == nil {
		os.RemoveAll(filepath.Dir(t.agent)) // it is below the folder of temporary files
	}
}

// Start boots a machine with the package installed, that belongs to no cluster yet.
func Start(t testing.TB) *Machine {
	t.Helper()
	return StartWith(t, dev.Options{Machines: 1})
}

// StartWith is Start in a lab with more machines, or with other options; the package comes by itself.
func StartWith(t testing.TB, o dev.Options) *Machine {
	t.Helper()
	testenv.Require(t, testenv.Root, testenv.Nspawn, testenv.Overlay, testenv.Deb, testenv.DebTools)
	tools, err := made()
	if err != nil {
		t.Fatal(err)
	}
	o.Debs = []string{testenv.DebPath()}
	m := &Machine{Lab: labtest.StartWith(t, o), Host: "m1", t: t, tools: tools, dir: t.TempDir()}
	for i := range o.Machines {
		m.Copy(fmt.Sprintf("m%d", i+1), tools.agent, AgentInside)
	}
	return m
}

// At returns another machine of the same lab.
func (m *Machine) At(host string) *Machine {
	other := *m
	other.Host = host
	return &other
}

// Found is Start and `ployzctl init`.
func Found(t testing.TB) *Machine {
	t.Helper()
	m := Start(t)
	m.Must("init")
	return m
}

// In returns the same machine for a subtest.
func (m *Machine) In(t testing.TB) *Machine {
	return &Machine{Lab: m.Lab.In(t), Host: m.Host, t: t, tools: m.tools, dir: t.TempDir()}
}

// Ctl runs the package's ployzctl here, against the machine's daemon, and returns how it ended.
func (m *Machine) Ctl(args ...string) labtest.Result {
	m.t.Helper()
	return m.CtlWith("", args...)
}

// CtlWith is Ctl with something on standard input.
func (m *Machine) CtlWith(stdin string, args ...string) labtest.Result {
	m.t.Helper()
	cmd, cancel := m.Command(args...)
	defer cancel()
	var out, errs bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		m.t.Fatalf("ployzctl %s: %v", strings.Join(args, " "), err)
	}
	return labtest.Result{Status: cmd.ProcessState.ExitCode(), Out: out.String(), Err: errs.String()}
}

// Command is the ployzctl of Ctl, not started yet. cancel ends it and must be called.
func (m *Machine) Command(args ...string) (cmd *exec.Cmd, cancel func()) {
	ctx, cancel := context.WithTimeout(context.Background(), commandLimit)
	cmd = exec.CommandContext(ctx, m.tools.ctl, args...)
	cmd.Dir = m.dir
	// XDG_CONFIG_HOME keeps the contexts of whoever runs the tests out of them.
	cmd.Env = append(os.Environ(), "PLOYZ_HOST=dev://"+m.Name+"/"+m.Host, "XDG_CONFIG_HOME="+m.dir, "NO_COLOR=1")
	return cmd, cancel
}

// Must runs a ployzctl that must succeed and returns its standard output.
func (m *Machine) Must(args ...string) string {
	m.t.Helper()
	r := m.Ctl(args...)
	if r.Status != 0 {
		m.t.Fatalf("ployzctl %s: exit status %d\n%s%s", strings.Join(args, " "), r.Status, r.Out, r.Err)
	}
	return r.Out
}

// JSON runs a ployzctl with --json, whatever its exit status, and reads its one object.
func (m *Machine) JSON(value any, args ...string) {
	m.t.Helper()
	r := m.Ctl(append([]string{"--json"}, args...)...)
	if err := json.Unmarshal([]byte(r.Out), value); err != nil {
		m.t.Fatalf("ployzctl --json %s: exit status %d: %v\n%s%s", strings.Join(args, " "), r.Status, err, r.Out, r.Err)
	}
}

// Status is `ployzctl status --json`.
func (m *Machine) Status() api.Status {
	m.t.Helper()
	var s api.Status
	m.JSON(&s, "status")
	return s
}

// File writes a file into the folder in which commands run, and returns its name.
func (m *Machine) File(name, content string) string {
	m.t.Helper()
	path := filepath.Join(m.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		m.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		m.t.Fatal(err)
	}
	return name
}

// Deploy deploys a Compose file and returns the outcome, whatever it is.
func (m *Machine) Deploy(compose string, args ...string) api.Outcome {
	m.t.Helper()
	var out api.Outcome
	m.JSON(&out, append([]string{"deploy", "-f", m.File("compose.yaml", compose)}, args...)...)
	return out
}

// MustDeploy is Deploy that must be committed with nothing left over.
func (m *Machine) MustDeploy(compose string, args ...string) api.Outcome {
	m.t.Helper()
	out := m.Deploy(compose, args...)
	if out.Outcome != api.Committed {
		m.t.Fatalf("the deploy ended %s: %s", out.Outcome, Said(out.Error))
	}
	return out
}

// Said is an error in full, with its details.
func Said(e *api.Error) string {
	text, err := json.MarshalIndent(e, "", "  ")
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// Load runs a plan at a place of the lab: "client", outside, or one of its machines.
func (m *Machine) Load(place string, p load.Plan) *labtest.Running {
	m.t.Helper()
	agent := m.tools.agent
	if place != labtest.Client {
		agent = AgentInside
	}
	return labtest.StartLoad(m.t, m.Name, place, agent, p)
}
