package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/nodetest/memworld"
	"github.com/ployz/ployz/node/runtime"
	"github.com/ployz/ployz/node/runtime/memruntime"
	"github.com/ployz/ployz/node/store"
	"github.com/ployz/ployz/node/store/memstore"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"ployzctl": main})
}

type worldKey struct{}

// TestScripts runs the command as its own process against a world per script.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		Setup:               setUp,
		UpdateScripts:       os.Getenv("PLOYZ_UPDATE_GOLDEN") != "",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"world": worldCommand, "status": exitCommand, "calm": calmCommand,
		},
	})
}

func setUp(env *testscript.Env) error {
	// A socket's path has room for 107 bytes, which a script's folder may exceed.
	dir, err := os.MkdirTemp("", "ployz")
	if err != nil {
		return err
	}
	socket := filepath.Join(dir, "d.sock")
	w, stop, err := memworld.Start(dir, socket)
	if err != nil {
		return err
	}
	env.Defer(func() { stop(); os.RemoveAll(dir) })
	env.Values[worldKey{}] = w
	env.Setenv("PLOYZ_HOST", "unix://"+socket)
	env.Setenv("XDG_CONFIG_HOME", filepath.Join(env.WorkDir, "config"))
	env.Setenv("HOME", env.WorkDir)
	return nil
}

// hung are the worlds with a call that hangs: a channel that heal closes.
var hung sync.Map

// worldCommand changes the world under the script:
//
//	world program IMAGE runs|ends|refuse [STATUS] [LINE...]   what instances of an image do
//	world fault CALL PREFIX                                  the runtime's call fails for instances with that prefix
//	world hang CALL PREFIX                                   the runtime's call does not return until heal
//	world heal                                               no fault, no hook, no lag
//	world commit lost|landed|rejected                        how the next commits end
//	world close                                              the socket refuses everybody
//	world pass 31s                                           the store's clock moves, leases run out
//	world lag                                                the gateway never applies anything
//	world store down                                         every read and write of the store fails
//	world serve IMAGE                                        the registry has this image
//	world pool                                               m1 shows the pool that its deploys use
func worldCommand(ts *testscript.TestScript, neg bool, args []string) {
	w := ts.Value(worldKey{}).(*memworld.World)
	switch args[0] {
	case "program":
		w.SetProgram(args[1], program(args[2], args[3:]))
	case "fault":
		w.Runtime.SetFault(func(p memruntime.Point) error {
			if p.Call == args[1] && strings.HasPrefix(p.Subject, args[2]) && !p.After {
				return api.Errorf(api.CodeStopFailed, "the unit does not answer").About("instance " + args[2])
			}
			return nil
		})
	case "hang":
		released := make(chan struct{})
		hung.Store(w, released)
		w.Runtime.SetFault(func(p memruntime.Point) error {
			if p.Call == args[1] && strings.HasPrefix(p.Subject, args[2]) {
				<-released
			}
			return nil
		})
	case "close":
		w.Close()
	case "heal":
		if released, ok := hung.LoadAndDelete(w); ok {
			close(released.(chan struct{}))
		}
		w.Runtime.SetFault(nil)
		w.Store.SetHooks(memstore.Hooks{})
		w.SetLag(false)
	case "commit":
		w.Store.SetHooks(commitHooks(args[1]))
	case "pass":
		d, err := time.ParseDuration(args[1])
		ts.Check(err)
		w.Pass(d)
	case "lag":
		w.SetLag(true)
	case "store":
		w.Store.SetHooks(memstore.Hooks{BeforeRead: func(string) error { return memstore.NeverSent() }, BeforeCommit: func(store.Batch) error { return memstore.NeverSent() }})
	case "serve":
		w.Images.Serve(args[1], strings.Join(args[1:], " "), runtime.ImageConfig{})
	case "pool":
		w.ShowPool()
	default:
		ts.Fatalf("no world %s", args[0])
	}
}

func commitHooks(how string) memstore.Hooks {
	is := func(b store.Batch) bool { return strings.HasSuffix(b.ID, "-commit") }
	switch how {
	case "landed":
		return memstore.Hooks{
			AfterCommit: func(b store.Batch, _ store.Revision) error {
				if is(b) {
					return memstore.ReplyLost()
				}
				return nil
			},
		}
	case "lost":
		return memstore.Hooks{BeforeCommit: func(b store.Batch) error {
			if is(b) {
				return memstore.ReplyLost()
			}
			return nil
		}}
	}
	return memstore.Hooks{BeforeCommit: func(b store.Batch) error {
		if is(b) {
			return memstore.Rejected("head.shop")
		}
		return nil
	}}
}

func program(does string, rest []string) memruntime.Program {
	p := memruntime.Program{Ends: does == "ends"}
	if len(rest) > 0 {
		fmt.Sscan(rest[0], &p.ExitCode)
		p.Lines = rest[1:]
	}
	if does == "refuse" {
		p.Refuse = "permission denied"
	}
	return p
}

// exitCommand runs a command and wants exactly this exit status: status N ployzctl ARG...
func exitCommand(ts *testscript.TestScript, neg bool, args []string) {
	err := ts.Exec(args[1], args[2:]...)
	got := "0"
	if err != nil {
		got = strings.TrimPrefix(err.Error(), "exit status ")
	}
	if got != args[0] {
		ts.Fatalf("exit status %s, want %s (%v)", got, args[0], err)
	}
}

// noise is what differs from run to run: ids, times and durations.
var noise = []struct {
	shape *regexp.Regexp
	calm  string
}{
	{regexp.MustCompile(`\bd[0-9a-hjkmnp-tv-z]{12}\b`), "OPERATION"},
	{regexp.MustCompile(`\b(shop-[a-z]+(?:-\d)?)-[a-z2-9]{6}\b`), "$1-XXXXXX"},
	{regexp.MustCompile(`\b\d+(\.\d+)?(ms|µs|s)\b`), "TIME"},
	{regexp.MustCompile(`revision \d+, not \d+`), "revision N, not M"},
	{regexp.MustCompile(` +TIME`), " TIME"},
}

// calmCommand writes a file, stdout or stderr to another file without its noise: calm stderr got
func calmCommand(ts *testscript.TestScript, neg bool, args []string) {
	text := ts.ReadFile(args[0])
	for _, n := range noise {
		text = n.shape.ReplaceAllString(text, n.calm)
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), []byte(text), 0o644))
}
