package daemon_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/nodetest/memworld"
	"github.com/ployz/ployz/node/runtime/memruntime"
	"github.com/ployz/ployz/node/sdk"
	"github.com/ployz/ployz/node/store"
	"github.com/ployz/ployz/node/store/memstore"
)

// open starts a founded world and a client of it.
func open(t *testing.T) (*memworld.World, *sdk.Client) {
	t.Helper()
	w, c, _ := serve(t)
	if err := w.Found(); err != nil {
		t.Fatal(err)
	}
	return w, c
}

func serve(t *testing.T) (*memworld.World, *sdk.Client, string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "ployz") // a socket's path must be short
	if err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(dir, "d.sock")
	w, stop, err := memworld.Start(dir, socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stop(); os.RemoveAll(dir) })
	c, err := sdk.Open("unix://" + socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return w, c, socket
}

func spec(image string) api.DeployRequest {
	return api.DeployRequest{Spec: api.Spec{Namespace: "shop", Services: map[string]api.Service{
		"app": {Image: image, Ready: &api.Probe{Exec: []string{"ready"}}},
	}}}
}

// want fails unless err has the code.
func want(t *testing.T, err error, code api.Code) {
	t.Helper()
	if api.CodeOf(err) != code {
		t.Errorf("got %v, want %s", err, code)
	}
}

// eventually polls until ok or the deadline.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if ok() {
			return
		}
	}
	t.Fatalf("%s did not happen", what)
}

// begin starts a deploy that does not end by itself and returns its id and its outcome to be.
func begin(t *testing.T, ctx context.Context, c *sdk.Client) (string, <-chan api.Outcome, <-chan error) {
	t.Helper()
	ids, outs, errs := make(chan string, 1), make(chan api.Outcome, 1), make(chan error, 1)
	go func() {
		out, err := c.Run(ctx, api.KindDeploy, spec("app:v1"), "", func(e api.Event) {
			if e.Type == api.EventStepIntended && strings.HasPrefix(e.Step, "ready") {
				ids <- e.Operation
			}
		})
		outs <- out
		errs <- err
	}()
	select {
	case id := <-ids:
		return id, outs, errs
	case out := <-outs:
		t.Fatalf("the deploy ended %s: %v", out.Outcome, out.Error)
	case <-time.After(10 * time.Second):
		t.Fatal("the deploy did not begin")
	}
	return "", nil, nil
}

func TestBeforeInit(t *testing.T) {
	_, c, _ := serve(t)
	if s, err := c.Status(t.Context()); err != nil || s.Machine.Name != "m1" {
		t.Errorf("status: %v %v", s, err)
	}
	if _, err := c.Doctor(t.Context()); err != nil {
		t.Error(err)
	}
	_, err := c.Services(t.Context(), "", "")
	want(t, err, api.CodeNotInitialised)
	_, err = c.Preview(t.Context(), api.KindDeploy, spec("app:v1"))
	want(t, err, api.CodeNotInitialised)
	want(t, c.Events(t.Context(), false, nil), api.CodeNotInitialised)
	_, err = c.Exec(t.Context(), sdk.Exec{Instance: "x", ExecRequest: api.ExecRequest{Args: []string{"true"}}})
	want(t, err, api.CodeNotInitialised)
	if api.AsError(err).Hint != "ployzctl init" {
		t.Errorf("the hint is %q", api.AsError(err).Hint)
	}
}

func TestDisconnectDoesNotCancel(t *testing.T) {
	w, c := open(t)
	ctx, hangUp := context.WithCancel(t.Context())
	id, _, errs := begin(t, ctx, c)
	hangUp()
	if err := <-errs; api.AsError(err).Operation != id || !strings.Contains(api.AsError(err).Hint, id) {
		t.Errorf("who hung up was told %v, not how to watch %s", err, id)
	}
	list, err := c.Operations(t.Context(), 1)
	if err != nil || list[0].State != "running" {
		t.Fatalf("after the client went: %v %v", list, err)
	}
	watched := make(chan api.Outcome, 1)
	go func() {
		out, err := c.Watch(context.Background(), id, nil)
		if err != nil {
			out.Error = api.AsError(err)
		}
		watched <- out
	}()
	if err := c.Cancel(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	if out := <-watched; out.Outcome != api.RolledBack || out.Error.Code != api.CodeCancelled || out.Scope != "ns/shop" {
		t.Errorf("the cancelled deploy ended %s: %v", out.Outcome, out.Error)
	}
	if left := w.Runtime.World(); len(left) > 0 {
		t.Errorf("left on the machine: %v", left)
	}
	want(t, c.Cancel(t.Context(), id), api.CodeNotRunningOp)
}

func TestSecondOperationIsToldWhose(t *testing.T) {
	_, c := open(t)
	id, outs, _ := begin(t, t.Context(), c)
	out, err := c.Run(t.Context(), api.KindDeploy, spec("app:v2"), "", nil)
	if err != nil || out.Outcome != api.Refused || out.Error.Code != api.CodeScopeBusy || !strings.Contains(out.Error.Message, id) {
		t.Errorf("the second deploy: %s %v %v", out.Outcome, out.Error, err)
	}
	if err := c.Cancel(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	<-outs
}

func TestDrain(t *testing.T) {
	w, c := open(t)
	_, outs, _ := begin(t, t.Context(), c)
	ended, cancel := context.WithCancel(t.Context())
	cancel() // no time to finish: roll back
	w.API.Drain(ended)
	if out := <-outs; out.Outcome != api.RolledBack {
		t.Errorf("at the daemon's stop the deploy ended %s", out.Outcome)
	}
	_, err := c.Run(t.Context(), api.KindDeploy, spec("app:v2"), "", nil)
	want(t, err, api.CodeDaemonStopping)
}

// TestWatchInterrupted watches an operation whose coordinator died: it ends as interrupted, not never.
func TestWatchInterrupted(t *testing.T) {
	w, c := open(t)
	for _, what := range []string{api.EventOpened, api.EventStepIntended} {
		text, err := json.Marshal(api.Event{Type: what, Operation: "dead0", Kind: "deploy", Scope: "ns/shop"})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Store.Log().Append(t.Context(), "dead0", what, text); err != nil {
			t.Fatal(err)
		}
	}
	out, err := c.Watch(t.Context(), "dead0", nil)
	if err != nil || out.Outcome != api.Interrupted || out.Error.Code != api.CodeInterrupted {
		t.Errorf("got %v %v", out, err)
	}
	list, err := c.Operations(t.Context(), 0)
	if err != nil || list[0].State != "interrupted" {
		t.Errorf("got %v %v", list, err)
	}
}

func TestMalformed(t *testing.T) {
	_, c := open(t)
	_, err := c.Preview(t.Context(), "dance", nil)
	want(t, err, api.CodeUnknownOperation)
	_, err = c.Preview(t.Context(), api.KindScale, map[string]any{"namespace": "shop", "replica": 3})
	want(t, err, api.CodeBadRequest)
	_, err = c.Preview(t.Context(), api.KindScale, map[string]any{"replicas": "three"})
	want(t, err, api.CodeBadRequest)
	if e := api.AsError(err); e.Subject != "replicas" {
		t.Errorf("the place is %q", e.Subject)
	}
	_, err = c.History(t.Context(), "Not-a.name")
	want(t, err, api.CodeSpecInvalid)
	_, err = c.Commit(t.Context(), "shop", 0)
	want(t, err, api.CodeBadRequest)
	_, err = c.Exec(t.Context(), sdk.Exec{Instance: "x"})
	want(t, err, api.CodeBadRequest)
}

// TestRaw looks at what a client without the SDK sees: statuses, error bodies, unknown paths.
func TestRaw(t *testing.T) {
	w, _, socket := serve(t)
	if err := w.Found(); err != nil {
		t.Fatal(err)
	}
	client := http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}}}
	defer client.CloseIdleConnections()
	for _, c := range []struct {
		method, path, body string
		status             int
		code               api.Code
	}{
		{"GET", "/v1/nothing", "", 404, api.CodeNotFound},
		{"POST", "/v1/plans", "{", 400, api.CodeBadRequest},
		{"POST", "/v1/operations", `{"kind":"dance"}`, 400, api.CodeUnknownOperation},
		{"GET", "/v1/namespaces/shop/history", "", 404, api.CodeNamespaceAbsent},
		{"GET", "/v1/operations?limit=x", "", 400, api.CodeBadRequest},
		{"GET", "/v1/logs?since=now", "", 400, api.CodeBadRequest},
		{"GET", "/v1/namespaces/shop/diff?from=1&to=x", "", 404, api.CodeCommitAbsent},
		{"GET", "/v1/services?service=x&namespace=shop", "", 404, api.CodeNamespaceAbsent},
		{"POST", "/v1/operations/none/cancel", "", 409, api.CodeNotRunningOp},
	} {
		req, err := http.NewRequest(c.method, "http://ployzd"+c.path, strings.NewReader(c.body))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		var answer struct{ Error *api.Error }
		err = json.NewDecoder(resp.Body).Decode(&answer)
		resp.Body.Close()
		if err != nil || answer.Error == nil || answer.Error.Code != c.code || resp.StatusCode != c.status {
			t.Errorf("%s %s: %s %v %v, want %d %s", c.method, c.path, resp.Status, answer.Error, err, c.status, c.code)
		}
	}
}

func TestPermission(t *testing.T) {
	w, c := open(t)
	w.Close()
	_, err := c.Status(t.Context())
	want(t, err, api.CodePermission)
}

func TestLedgerKeepsNoSecrets(t *testing.T) {
	w, c := open(t)
	request := spec("app:v2")
	request.Spec.Services["app"] = api.Service{Image: "app:v2", Process: api.Process{SecretEnv: map[string]string{"PASSWORD": "pw"}}}
	request.Spec.Secrets = map[string]api.Secret{"pw": {Value: []byte("hunter2")}}
	request.Auths = map[string]api.RegistryAuth{"docker.io": {Password: "opensesame"}}
	run := func(kind string, body any) {
		t.Helper()
		if out, err := c.Run(t.Context(), kind, body, "", nil); err != nil || out.Outcome != api.Committed {
			t.Fatalf("%s ended %s: %v %v", kind, out.Outcome, out.Error, err)
		}
	}
	run(api.KindDeploy, request)
	run(api.KindSecretSet, api.ValueRequest{Namespace: "shop", Name: "key", Value: []byte("hunter2")})
	run(api.KindImagePull, api.ImagePullRequest{Reference: "db:v1", Auth: &api.RegistryAuth{Password: "opensesame"}})
	run(api.KindRun, api.RunRequest{Namespace: "shop", Service: "app", Command: []string{"true"}, Env: map[string]string{"X": "hunter2"}})
	last, err := w.Store.Log().Last(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	if len(last) != 4 {
		t.Fatalf("%d operations in the ledger", len(last))
	}
	for _, operation := range last {
		records, err := w.Store.Log().History(t.Context(), operation.Operation)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range records {
			// Bytes are base64 in JSON.
			for _, secret := range []string{"hunter2", "aHVudGVyMg", "opensesame"} {
				if bytes.Contains(r.Value, []byte(secret)) {
					t.Errorf("the ledger holds a secret: %s", r.Value)
				}
			}
		}
	}
}

func TestEventsFollow(t *testing.T) {
	_, c := open(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	seen := make(chan api.ClusterEvent, 100)
	done := make(chan error, 1)
	go func() { done <- c.Events(ctx, true, func(e api.ClusterEvent) error { seen <- e; return nil }) }()
	if out, err := c.Run(t.Context(), api.KindDeploy, spec("app:v2"), "", nil); err != nil || out.Outcome != api.Committed {
		t.Fatalf("%v %v", out, err)
	}
	routed, ended := false, false
	for !routed || !ended {
		select {
		case e := <-seen:
			routed = routed || e.Routing != nil && e.Routing.Commit == "1" && e.Routing.Instances == 1
			ended = ended || e.Operation != nil && e.Operation.Type == api.EventOutcome
		case <-time.After(10 * time.Second):
			t.Fatalf("routed %t, ended %t", routed, ended)
		}
	}
	cancel()
	want(t, <-done, api.CodeCancelled)
}

func TestExecStreams(t *testing.T) {
	_, c := open(t)
	if out, err := c.Run(t.Context(), api.KindDeploy, spec("app:v2"), "", nil); err != nil || out.Outcome != api.Committed {
		t.Fatalf("%v %v", out, err)
	}
	list, err := c.Services(t.Context(), "shop", "app")
	if err != nil {
		t.Fatal(err)
	}
	id := list.Services[0].Instances[0].ID
	var out, errOut bytes.Buffer
	big := bytes.Repeat([]byte("0123456789abcdef"), 20_000) // more than a frame and than a pipe
	exec := func(in io.Reader, args ...string) (int, error) {
		out.Reset()
		return c.Exec(t.Context(), sdk.Exec{Instance: id, ExecRequest: api.ExecRequest{Args: args}, Stdin: in, Stdout: &out, Stderr: &errOut})
	}
	if status, err := exec(bytes.NewReader(big), "cat"); err != nil || status != 0 || !bytes.Equal(out.Bytes(), big) {
		t.Errorf("cat: %d %v, %d of %d bytes", status, err, out.Len(), len(big))
	}
	// A command that ends without reading its input does not hang on it.
	if status, err := exec(bytes.NewReader(big), "exit", "9"); err != nil || status != 9 {
		t.Errorf("exit: %d %v", status, err)
	}
	sizes := make(chan api.TerminalSize, 1)
	sizes <- api.TerminalSize{Columns: 132, Rows: 43}
	status, err := c.Exec(t.Context(), sdk.Exec{Instance: id, ExecRequest: api.ExecRequest{Args: []string{"size"}, TTY: true}, Stdout: &out, Stderr: &errOut, Resize: sizes})
	if err != nil || status != 0 || !strings.Contains(out.String(), "132x43") {
		t.Errorf("size: %d %v %q", status, err, out.String())
	}
	_, err = c.Exec(t.Context(), sdk.Exec{Instance: "nobody", ExecRequest: api.ExecRequest{Args: []string{"true"}}, Stdout: &out, Stderr: &errOut})
	want(t, err, api.CodeRuntimeNotFound)
}

// TestTakeBackup: what is uploaded reaches the daemon whole, with the digest that it must have, also before there is a
// cluster; a daemon without a store says so.
func TestTakeBackup(t *testing.T) {
	w, c, _ := serve(t)
	_, err := c.TakeBackup(t.Context(), strings.NewReader("facts"), "")
	want(t, err, api.CodeNotFound)
	w.API.TakeBackup = func(from io.Reader, digest string) (api.BackupManifest, error) {
		text, err := io.ReadAll(from)
		return api.BackupManifest{Cluster: string(text), Digest: digest}, err
	}
	m, err := c.TakeBackup(t.Context(), strings.NewReader("facts"), "sha256:1")
	if err != nil || m.Cluster != "facts" || m.Digest != "sha256:1" {
		t.Errorf("%+v, %v", m, err)
	}
}

// TestImportFailsEarly: an import that is refused before the archive was read tells why.
func TestImportFailsEarly(t *testing.T) {
	w, c := open(t)
	w.Images.SetFault(func(memruntime.Point) error { return api.Errorf(api.CodeImageBadArchive, "no layout") })
	_, err := c.ImportImage(t.Context(), "x:1", io.LimitReader(zeros{}, 8<<20), nil)
	want(t, err, api.CodeImageBadArchive)
	w.Images.SetFault(nil)
	image, err := c.ImportImage(t.Context(), "x:1", strings.NewReader("bytes"), nil)
	if err != nil || image.References[0] != "x:1" {
		t.Errorf("%v %v", image, err)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// TestStoreAway: what the machine knows is answered from it, what only the store knows is refused.
func TestStoreAway(t *testing.T) {
	w, c := open(t)
	if out, err := c.Run(t.Context(), api.KindDeploy, spec("app:v2"), "", nil); err != nil || out.Outcome != api.Committed {
		t.Fatalf("%v %v", out, err)
	}
	reads := 0
	w.Store.SetHooks(memstore.Hooks{BeforeRead: func(what string) error {
		if reads++; reads == 1 && what != "" { // the leader alone is away: the mirror answers
			return memstore.NeverSent()
		}
		return nil
	}})
	list, err := c.Services(t.Context(), "shop", "")
	if err != nil || list.Uncertain == "" || len(list.Services) != 1 || !list.Services[0].Instances[0].Ready {
		t.Errorf("from the mirror: %+v %v", list, err)
	}
	w.Store.SetHooks(memstore.Hooks{
		BeforeRead:   func(string) error { return memstore.NeverSent() },
		BeforeCommit: func(store.Batch) error { return memstore.NeverSent() },
	})
	list, err = c.Services(t.Context(), "", "")
	if err != nil || list.Uncertain == "" || len(list.Services) != 1 {
		t.Errorf("from the machine: %+v %v", list, err)
	}
	_, err = c.History(t.Context(), "shop")
	want(t, err, api.CodeStoreUnavailable)
	_, err = c.Operations(t.Context(), 1)
	want(t, err, api.CodeStoreUnavailable)
}

func TestUnreachable(t *testing.T) {
	c, err := sdk.Open("unix://" + filepath.Join(t.TempDir(), "none.sock"))
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.Status(t.Context())
	want(t, err, api.CodeDaemonUnreachable)
	if !errors.Is(err, &api.Error{Code: api.CodeDaemonUnreachable}) || !strings.Contains(api.AsError(err).Hint, "systemctl start") {
		t.Errorf("the hint is %q", api.AsError(err).Hint)
	}
}
