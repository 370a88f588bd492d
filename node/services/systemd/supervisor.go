package systemd

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"time"

	"github.com/coreos/go-systemd/v22/dbus"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/units"
)

// Supervisor implements services.Supervisor and runtime.Units. Safe for concurrent use.
type Supervisor struct {
	bus   bus
	files files
}

// New returns a supervisor that writes unit files to /etc/systemd/system. It connects when
// first used.
func New() *Supervisor { return &Supervisor{files: files{"/etc/systemd/system"}} }

// Close ends the connection; the supervisor may be used again.
func (s *Supervisor) Close() { s.bus.close() }

// Install implements services.Supervisor. Everything is written before systemd is asked what it holds, so that it reads
// its files again at most once.
func (s *Supervisor) Install(ctx context.Context, us ...units.Unit) error {
	if err := s.write(ctx, us); err != nil {
		return err
	}
	var changed []pull
	for _, u := range us {
		links, err := s.link(u.Name, true)
		if err != nil {
			return err
		}
		changed = append(changed, links...)
	}
	return s.refresh(ctx, us, changed)
}

// Write implements runtime.Units.
func (s *Supervisor) Write(ctx context.Context, us ...units.Unit) error {
	if err := s.write(ctx, us); err != nil {
		return err
	}
	return s.refresh(ctx, us, nil)
}

// write looks at every file before the first is written. systemd is asked first, so that nothing is written while it
// does not answer.
func (s *Supervisor) write(ctx context.Context, us []units.Unit) error {
	if _, err := s.bus.get(ctx); err != nil {
		return err
	}
	for _, u := range us {
		if _, err := s.files.ours(u.Name); err != nil {
			return err
		}
	}
	for _, u := range us {
		if _, err := s.files.write(u); err != nil {
			return err
		}
	}
	return nil
}

// Enable implements runtime.Units.
func (s *Supervisor) Enable(ctx context.Context, name string, boot bool) error {
	changed, err := s.link(name, boot)
	if err != nil {
		return err
	}
	return s.refresh(ctx, nil, changed)
}

// pull is a unit that wants or requires another one, or does so no more.
type pull struct {
	by, name string
	is       bool
}

// link enables a unit of ours for the boot, or not, and returns what else that changed.
func (s *Supervisor) link(name string, boot bool) (changed []pull, err error) {
	have, err := s.files.ours(name)
	if err != nil || !have.exists {
		return nil, err
	}
	by, err := s.files.link(name, have.text, boot)
	for _, unit := range by {
		changed = append(changed, pull{unit, name, boot})
	}
	return changed, err
}

// refresh makes systemd read its files again where it holds an older text, or older dependencies. A unit that it never
// loaded needs none of that, which spares a new one the most expensive call there is.
func (s *Supervisor) refresh(ctx context.Context, us []units.Unit, changed []pull) error {
	for _, u := range us {
		p, err := s.bus.properties(ctx, u.Name)
		if err != nil {
			return err
		}
		if p.text("LoadState") != "loaded" || p.yes("NeedDaemonReload") || p.text("FragmentPath") != s.files.path(u.Name) {
			return s.bus.reload(ctx)
		}
	}
	for _, c := range changed {
		p, err := s.bus.properties(ctx, c.by)
		if err != nil {
			return err
		}
		if slices.Contains(slices.Concat(p.list("Wants"), p.list("Requires")), c.name) != c.is {
			return s.bus.reload(ctx)
		}
	}
	return nil
}

// jobCall is one of the connection's methods that queue a job.
type jobCall func(c *dbus.Conn, ctx context.Context, name, mode string, done chan<- string) (int, error)

// job queues a job and waits for its result, systemd's word for it: "done", "failed", "timeout",
// "canceled", "dependency", "skipped". refused is why systemd would not even queue it.
func (s *Supervisor) job(ctx context.Context, name string, call jobCall) (result string, refused, err error) {
	conn, err := s.bus.get(ctx)
	if err != nil {
		return "", nil, err
	}
	done := make(chan string, 1)
	if _, err := call(conn, ctx, name, "replace", done); err != nil {
		if _, ok := answered(err); ok {
			return "", err, nil
		}
		return "", nil, down(err)
	}
	return s.awaitJob(ctx, conn, done)
}

// awaitJob notices a bus that goes away, since then no result would ever come.
func (s *Supervisor) awaitJob(ctx context.Context, conn *dbus.Conn, done <-chan string) (string, error, error) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case result := <-done:
			return result, nil, nil
		case <-ctx.Done():
			return "", nil, down(fmt.Errorf("the job was queued, its result is not known: %w", context.Cause(ctx)))
		case <-tick.C:
			if !conn.Connected() {
				return "", nil, down(errors.New("the connection was lost while the job ran, its result is not known"))
			}
		}
	}
}

// Start implements services.Supervisor.
func (s *Supervisor) Start(ctx context.Context, name string) error {
	return s.bringUp(ctx, name, (*dbus.Conn).StartUnitContext)
}

// Restart implements services.Supervisor.
func (s *Supervisor) Restart(ctx context.Context, name string) error {
	return s.bringUp(ctx, name, (*dbus.Conn).RestartUnitContext)
}

func (s *Supervisor) bringUp(ctx context.Context, name string, call jobCall) error {
	if err := s.forgetFailure(ctx, name); err != nil {
		return err
	}
	result, refused, err := s.job(ctx, name, call)
	switch word, _ := answered(refused); {
	case err != nil:
		return err
	case word == errNoSuchUnit:
		return api.Errorf(api.CodeServiceAbsent, "no such unit").About(name)
	case refused != nil:
		return api.Errorf(api.CodeServiceFailed, "systemd refuses to start it: %w", refused).About(name)
	case result == "done":
		return nil
	}
	return s.startFailure(ctx, name, result)
}

// forgetFailure clears failures and the count of starts: an explicit start is a new beginning.
func (s *Supervisor) forgetFailure(ctx context.Context, name string) error {
	conn, err := s.bus.get(ctx)
	if err != nil {
		return err
	}
	err = conn.ResetFailedUnitContext(ctx, name)
	if _, ok := answered(err); err != nil && !ok {
		return down(err)
	}
	return nil // not loaded: nothing to forget
}

func (s *Supervisor) startFailure(ctx context.Context, name, result string) error {
	o, err := s.Observe(ctx, name)
	if err != nil {
		return err
	}
	why := fmt.Sprintf("the start job ended as %q, the unit is %s (%s)", result, o.Active, o.Result)
	if o.ExitCode >= 0 {
		why += fmt.Sprintf(", exit status %d", o.ExitCode)
	}
	failed := api.Errorf(api.CodeServiceFailed, "%s", why).About(name).WithHint("journalctl -u %s", name)
	if tail := s.tail(ctx, name); tail != "" {
		failed.Log = strings.Split(tail, "\n")
	}
	return failed
}

// tail returns what the unit's last run wrote. It is decoration for an error, so that failing to get it is
// said in its place.
func (s *Supervisor) tail(ctx context.Context, name string) string {
	p, err := s.bus.properties(ctx, name)
	if err != nil {
		return err.Error()
	}
	match := "_SYSTEMD_UNIT=" + name
	if id, ok := p["InvocationID"].([]byte); ok && len(id) == 16 {
		match = fmt.Sprintf("_SYSTEMD_INVOCATION_ID=%x", id)
	}
	// What was written just now may still be on its way into the journal.
	if err := exec.CommandContext(ctx, "journalctl", "--sync").Run(); err != nil {
		return "journalctl --sync: " + err.Error()
	}
	out, err := exec.CommandContext(ctx, "journalctl", "-q", "--no-pager", "-o", "cat", "-n", "20", match).Output()
	if err != nil {
		return "journalctl: " + err.Error()
	}
	return strings.TrimSpace(string(out))
}

// Reload implements services.Supervisor.
func (s *Supervisor) Reload(ctx context.Context, name string) error {
	result, refused, err := s.job(ctx, name, (*dbus.Conn).ReloadUnitContext)
	switch {
	case err != nil:
		return err
	case refused != nil:
		return api.Errorf(api.CodeServiceReload, "systemd refuses to reload it: %w", refused).About(name)
	case result != "done":
		return api.Errorf(api.CodeServiceReload, "the reload job ended as %q", result).About(name).WithHint("journalctl -u %s", name)
	}
	return nil
}

// Stop implements services.Supervisor.
func (s *Supervisor) Stop(ctx context.Context, name string) error {
	result, refused, err := s.job(ctx, name, (*dbus.Conn).StopUnitContext)
	switch word, _ := answered(refused); {
	case err != nil:
		return err
	case word == errNoSuchUnit || word == errMasked:
		return nil
	case refused != nil:
		return api.Errorf(api.CodeServiceStop, "systemd refuses to stop it: %w", refused).About(name)
	case result != "done":
		return api.Errorf(api.CodeServiceStop, "the stop job ended as %q", result).About(name).WithHint("systemctl status %s", name)
	}
	return nil
}

// Remove implements services.Supervisor.
func (s *Supervisor) Remove(ctx context.Context, names ...string) error {
	for _, name := range names {
		if _, err := s.files.ours(name); err != nil {
			return err
		}
	}
	reload := false
	for _, name := range names {
		stale, err := s.removeOne(ctx, name)
		if err != nil {
			return err
		}
		reload = reload || stale
	}
	if !reload {
		return nil
	}
	return s.bus.reload(ctx)
}

// removeOne returns whether systemd still holds the unit. One that is stopped and has not failed it
// forgets by itself.
func (s *Supervisor) removeOne(ctx context.Context, name string) (stale bool, err error) {
	if err := s.Stop(ctx, name); err != nil {
		return false, err
	}
	if err := s.forgetFailure(ctx, name); err != nil {
		return false, err
	}
	if removed, err := s.files.remove(name); err != nil || !removed {
		return false, err
	}
	p, err := s.bus.properties(ctx, name)
	return err == nil && p.text("LoadState") != "not-found", err
}
