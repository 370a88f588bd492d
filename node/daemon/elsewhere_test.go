package daemon_test

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/nodetest/memworld"
	"github.com/ployz/ployz/node/runtime"
	"github.com/ployz/ployz/node/sdk"
)

// two starts a world of two machines with an instance of shop/app on each.
func two(t *testing.T) (*memworld.World, *memworld.Second, *sdk.Client) {
	t.Helper()
	w, c, _ := serve(t)
	second, err := w.AddSecond(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(second.Stop)
	request := api.DeployRequest{Spec: api.Spec{Namespace: "shop", Services: map[string]api.Service{
		"app": {Image: "app:v2", Placement: api.Placement{Replicas: 2}},
	}}}
	out, err := c.Run(t.Context(), api.KindDeploy, request, "", nil)
	if err != nil || out.Outcome != api.Committed {
		t.Fatalf("the deploy ended %s: %v %v", out.Outcome, out.Error, err)
	}
	return w, second, c
}

// at is the instance on a machine.
func at(t *testing.T, c *sdk.Client, machine string) api.InstanceStatus {
	t.Helper()
	list, err := c.Services(t.Context(), "shop", "app")
	if err != nil {
		t.Fatal(err)
	}
	for _, in := range list.Services[0].Instances {
		if in.Machine == machine {
			return in
		}
	}
	t.Fatalf("nothing is on %s: %+v", machine, list)
	return api.InstanceStatus{}
}

func TestServicesEverywhere(t *testing.T) {
	_, second, c := two(t)
	list, err := c.Services(t.Context(), "shop", "app")
	if err != nil || list.Services[0].Ready != 2 || list.Uncertain != "" {
		t.Errorf("%+v %v", list, err)
	}
	if in := at(t, c, "m2"); in.State != runtime.StateRunning || in.PID == 0 {
		t.Errorf("on m2: %+v", in)
	}
	second.Stop()
	list, err = c.Services(t.Context(), "shop", "app")
	if err != nil || list.Services[0].Ready != 1 || !strings.Contains(list.Uncertain, "m2") {
		t.Errorf("with m2 away: %+v %v", list, err)
	}
	if in := at(t, c, "m2"); in.State != api.InstanceUnknown {
		t.Errorf("on m2: %+v", in)
	}
}

func TestStatsEverywhere(t *testing.T) {
	_, second, c := two(t)
	stats, err := c.Stats(t.Context(), "shop", "")
	if err != nil || len(stats.Instances) != 2 || stats.Uncertain != "" {
		t.Errorf("%+v %v", stats, err)
	}
	second.Stop()
	stats, err = c.Stats(t.Context(), "shop", "")
	if err != nil || len(stats.Instances) != 1 || !strings.Contains(stats.Uncertain, "m2") {
		t.Errorf("with m2 away: %+v %v", stats, err)
	}
}

func TestImagesOfAMachine(t *testing.T) {
	_, second, c := two(t)
	if _, err := second.Images.Import(t.Context(), "own:v1", strings.NewReader("mine"), nil); err != nil {
		t.Fatal(err)
	}
	list, err := c.ImagesOf(t.Context(), "m2")
	if err != nil || !slices.ContainsFunc(list, func(e api.ImageEntry) bool { return slices.Contains(e.References, "own:v1") }) {
		t.Errorf("%+v %v", list, err)
	}
	list, err = c.ImagesOf(t.Context(), "m1")
	if err != nil || len(list) != 1 {
		t.Errorf("here: %+v %v", list, err)
	}
	_, err = c.ImagesOf(t.Context(), "m9")
	want(t, err, api.CodeNotFound)
	second.Stop()
	_, err = c.ImagesOf(t.Context(), "m2")
	want(t, err, api.CodeMachineSilent)
}

func TestExecElsewhere(t *testing.T) {
	_, second, c := two(t)
	run := func(instance string, in string, args ...string) (int, string, string, error) {
		var out, errs bytes.Buffer
		e := sdk.Exec{Instance: instance, ExecRequest: api.ExecRequest{Args: args}, Stdout: &out, Stderr: &errs}
		if in != "" {
			e.Stdin = strings.NewReader(in)
		}
		status, err := c.Exec(t.Context(), e)
		return status, out.String(), errs.String(), err
	}
	there := at(t, c, "m2").ID
	if _, out, _, err := run(there, "", "echo", "hello"); err != nil || out != "hello\n" {
		t.Errorf("echo: %q %v", out, err)
	}
	long := strings.Repeat("abcdefghij", 100_000)
	if _, out, _, err := run(there, long, "cat"); err != nil || out != long {
		t.Errorf("cat: %d bytes, %v", len(out), err)
	}
	if _, _, errs, err := run(there, "", "warn", "careful"); err != nil || errs != "careful\n" {
		t.Errorf("warn: %q %v", errs, err)
	}
	if status, _, _, err := run(there, "", "exit", "7"); err != nil || status != 7 {
		t.Errorf("exit: %d %v", status, err)
	}
	_, _, _, err := run(there, "", "nothing")
	want(t, err, api.CodeCommandAbsent)
	_, _, _, err = run("nobody", "", "echo")
	want(t, err, api.CodeRuntimeNotFound)
	if _, out, _, err := run(at(t, c, "m1").ID, "", "echo", "here"); err != nil || out != "here\n" {
		t.Errorf("here: %q %v", out, err)
	}
	second.Stop()
	_, _, _, err = run(there, "", "echo", "hello")
	want(t, err, api.CodeMachineSilent)
	_, _, _, err = run("nobody", "", "echo")
	want(t, err, api.CodeMachineSilent) // it may be there
}

// write has instances say their lines one after the other; even ones are said here, odd ones on m2.
func write(w *memworld.World, second *memworld.Second, here, there string, numbers ...int) {
	for _, n := range numbers {
		if n%2 == 0 {
			w.Runtime.Write(here, fmt.Sprint("line ", n))
		} else {
			second.Runtime.Write(there, fmt.Sprint("line ", n))
		}
		time.Sleep(time.Microsecond) // two lines of one instant have no order
	}
}

func messages(t *testing.T, ctx context.Context, c *sdk.Client, q sdk.LogQuery) ([]string, error) {
	t.Helper()
	var list []string
	err := c.Logs(ctx, q, func(l api.LogLine) error { list = append(list, l.Message); return nil })
	return list, err
}

func TestLogsEverywhere(t *testing.T) {
	w, second, c := two(t)
	here, there := at(t, c, "m1").ID, at(t, c, "m2").ID
	since := time.Now()
	write(w, second, here, there, 1, 2, 4, 3, 5, 6)
	all, err := messages(t, t.Context(), c, sdk.LogQuery{Namespace: "shop", Service: "app", Lines: -1, Since: since})
	if want := "[line 1 line 2 line 4 line 3 line 5 line 6]"; err != nil || fmt.Sprint(all) != want {
		t.Errorf("%v %v", all, err)
	}
	last, err := messages(t, t.Context(), c, sdk.LogQuery{Namespace: "shop", Lines: 3})
	if err != nil || fmt.Sprint(last) != "[line 3 line 5 line 6]" {
		t.Errorf("the last three: %v %v", last, err)
	}
	one, err := messages(t, t.Context(), c, sdk.LogQuery{Namespace: "shop", Instance: there, Lines: -1, Since: since})
	if err != nil || fmt.Sprint(one) != "[line 1 line 3 line 5]" {
		t.Errorf("of one instance: %v %v", one, err)
	}
	_, err = messages(t, t.Context(), c, sdk.LogQuery{Namespace: "nowhere", Lines: -1})
	want(t, err, api.CodeNamespaceAbsent)
	second.Stop()
	rest, err := messages(t, t.Context(), c, sdk.LogQuery{Namespace: "shop", Lines: -1, Since: since})
	want(t, err, api.CodeMachineSilent)
	if fmt.Sprint(rest) != "[line 2 line 4 line 6]" {
		t.Errorf("with m2 away: %v", rest)
	}
}

// TestFollowEverywhere: lines come as they are written, and a machine that goes away is told of once.
func TestFollowEverywhere(t *testing.T) {
	w, second, c := two(t)
	here, there := at(t, c, "m1").ID, at(t, c, "m2").ID
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	lines := make(chan string, 100)
	ended := make(chan error, 1)
	go func() {
		ended <- c.Logs(ctx, sdk.LogQuery{Namespace: "shop", Lines: -1, Follow: true}, func(l api.LogLine) error { lines <- l.Message; return nil })
	}()
	next := func(want string) {
		t.Helper()
		select {
		case got := <-lines:
			if !strings.Contains(got, want) {
				t.Fatalf("%q came, not %q", got, want)
			}
		case err := <-ended:
			t.Fatalf("it ended: %v", err)
		case <-time.After(30 * time.Second): // a busy computer; it comes after five
			t.Fatalf("%q did not come", want)
		}
	}
	next("starts")
	next("starts") // both are followed
	write(w, second, here, there, 1)
	next("line 1")
	write(w, second, here, there, 2)
	next("line 2")
	second.Stop()
	next("the lines of machine m2 are missing")
	write(w, second, here, there, 4)
	next("line 4")
}
