// Command ployz-nats runs one server of the store: the core on a voter, or the edge on any machine.
//
// It is nats-server as a library under a unit of its own, so that ployzd can be stopped, replaced
// or killed while the store serves. It adds what a unit needs and nothing more: readiness and the
// digest of the configuration for systemd and ployzd, seeds read from files, a reload that tells
// whether it worked, a refusal to run with settings under which acknowledged facts get lost.
//
//	ployz-nats core|edge --config FILE [--seed ACCOUNT=FILE]... [--route-secret FILE] [--status FILE] [--state DIR] [--check]
//	ployz-nats found     --config FILE --route-secret FILE
//	ployz-nats join      --config FILE --route-secret FILE
//	ployz-nats reload    --config FILE --status FILE [--timeout 20s]
//	ployz-nats version
//
// Exit status: 0 done · 1 failed · 2 usage · 3 refused (the configuration, or what was found on disk).
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

// refusal is an error about what was asked for or found, not about its execution.
type refusal struct{ error }

func (r refusal) Unwrap() error { return r.error }

func refuse(format string, args ...any) error { return refusal{fmt.Errorf(format, args...)} }

var errUsage = errors.New("usage: ployz-nats core|edge|found|join|reload|version [flags]; -h lists them")

func run(args []string, stdout, stderr io.Writer) int {
	err := command(args, stdout, stderr)
	var r refusal
	switch {
	case err == nil || errors.Is(err, flag.ErrHelp):
		return 0
	case errors.Is(err, errUsage):
		fmt.Fprintln(stderr, err)
		return 2
	case errors.As(err, &r):
		fmt.Fprintln(stderr, "ployz-nats:", err)
		return 3
	}
	fmt.Fprintln(stderr, "ployz-nats:", err)
	return 1
}

func command(args []string, stdout, stderr io.Writer) error {
	if len(args) == 0 {
		return errUsage
	}
	f, err := parseFlags(args[0], args[1:], stderr)
	if err != nil {
		return err
	}
	switch args[0] {
	case "core", "edge":
		if f.check {
			return check(f, stdout)
		}
		return serve(f)
	case "found":
		return found(f, stdout)
	case "join":
		return join(f, stdout)
	case "reload":
		return reload(f)
	case "version":
		_, err := fmt.Fprintln(stdout, "nats-server", server.VERSION)
		return err
	}
	return errUsage
}

// settings are the command line.
type settings struct {
	role        string
	config      string
	seeds       seedFlags
	routeSecret string
	status      string
	state       string
	check       bool
	timeout     time.Duration
	inner       *inner // set by serve
	room        *room  // set by serve
}

func parseFlags(role string, args []string, stderr io.Writer) (settings, error) {
	f := settings{role: role, seeds: seedFlags{}}
	set := flag.NewFlagSet("ployz-nats "+role, flag.ContinueOnError)
	set.SetOutput(stderr)
	set.StringVar(&f.config, "config", "", "the server's configuration `file`")
	set.Var(f.seeds, "seed", "the seed file of the leaf remote of an account, as `ACCOUNT=FILE`; may be repeated")
	set.StringVar(&f.routeSecret, "route-secret", "", "`file` with the secret that voters share")
	set.StringVar(&f.status, "status", "", "`file` to which the running configuration's digest is written")
	set.StringVar(&f.state, "state", "/var/lib/ployz", "`folder` of machine.json, which says where metrics are served")
	set.BoolVar(&f.check, "check", false, "check the configuration, print its digest, and do not start")
	set.DurationVar(&f.timeout, "timeout", 20*time.Second, "how long to wait")
	if err := set.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return f, err
		}
		return f, errUsage
	}
	if set.NArg() > 0 || f.config == "" && role != "version" {
		return f, errUsage
	}
	return f, nil
}

// seedFlags maps an account to the file that holds its leaf remote's seed.
type seedFlags map[string]string

func (s seedFlags) String() string { return "" }

func (s seedFlags) Set(v string) error {
	account, path, ok := strings.Cut(v, "=")
	if !ok || account == "" || path == "" {
		return fmt.Errorf("want ACCOUNT=FILE, got %q", v)
	}
	s[account] = path
	return nil
}
