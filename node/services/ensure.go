package services

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/units"
)

// Report is what Ensure found and did, as `status` shows it.
type Report struct {
	Unit string `json:"unit"`
	Decision
	// Deferred says that a socket unit was installed but takes over only when its running
	// service next starts: systemd opens no socket for a service that is up.
	Deferred bool `json:"deferred,omitempty"`
	// After is the unit as it was afterwards.
	After units.Observation `json:"-"`
	Err   *api.Error        `json:"error,omitempty"`
}

// ConfigDigest asks a running service for the digest of its configuration.
type ConfigDigest func(ctx context.Context) (string, error)

// Ensure observes one unit, decides, acts once, and observes again. digest may be nil when
// nothing is wanted of the configuration. Sockets go before their service. A failed act is in
// the report; what served before a failed Replace serves on.
func Ensure(ctx context.Context, s Supervisor, w Wanted, digest ConfigDigest) Report {
	seen, err := look(ctx, s, w, digest)
	r := Report{Unit: w.Unit.Name, Decision: Verdict(w, seen, err), After: seen.Observation}
	switch r.Act {
	case Adopt, Leave:
		return r
	}
	r.Deferred, err = act(ctx, s, w, r.Act)
	if err == nil && r.Act == Replace {
		err = settle(ctx, s, w, digest)
	}
	after, seeErr := s.Observe(ctx, w.Unit.Name)
	if seeErr == nil {
		r.After = after
	}
	if err := errors.Join(err, seeErr); err != nil {
		r.Err = api.AsError(err)
	}
	return r
}

// InstallNew installs the units that are not there, together, before the first of them is started: so systemd need not
// read all its files again for each, which takes it longer than to start one. Sockets bring their service. It returns the
// names of those that were nowhere, for StartNew; of the others Ensure must see what they are by then, since starting one
// may move another. Errors as of Supervisor.Install.
func InstallNew(ctx context.Context, s Supervisor, wanted ...Wanted) (nowhere []string, err error) {
	var fresh []units.Unit
	var looked []string
	for _, w := range wanted {
		for _, u := range []units.Unit{w.Unit, w.SocketOf} {
			if u.Name == "" || slices.Contains(looked, u.Name) {
				continue
			}
			looked = append(looked, u.Name)
			seen, err := s.Observe(ctx, u.Name)
			if err != nil {
				return nil, err
			}
			if !seen.File {
				fresh = append(fresh, u)
			}
			if !seen.Present() {
				nowhere = append(nowhere, u.Name)
			}
		}
	}
	if len(fresh) == 0 {
		return nil, nil
	}
	return nowhere, s.Install(ctx, fresh...)
}

// StartNew starts a unit that was nowhere until InstallNew installed it. If another pulled it in meanwhile it runs as
// wanted, and is left alone. Errors as of Supervisor.Start.
func StartNew(ctx context.Context, s Supervisor, w Wanted) error {
	if w.SocketOf.Name == "" {
		return s.Start(ctx, w.Unit.Name)
	}
	_, err := actOnSocket(ctx, s, w, Create)
	return err
}

// settleTime is longer than a successor may take to become ready.
const settleTime = 45 * time.Second

// settle waits until a reload has shown its effect: for systemd it is over once the signal is
// sent, while the successor is still starting. Errors: service.reload-failed, which leaves the old serving.
func settle(ctx context.Context, s Supervisor, w Wanted, digest ConfigDigest) error {
	ctx, cancel := context.WithTimeout(ctx, settleTime)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		seen, err := look(ctx, s, w, digest)
		last := Verdict(w, seen, err)
		if last.Act == Adopt {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return api.Errorf(api.CodeServiceReload, "%s after the reload, still: %s", settleTime, strings.Join(last.Reasons, "; ")).
				About(w.Unit.Name).WithHint("journalctl -u %s", w.Unit.Name)
		}
	}
}

func look(ctx context.Context, s Supervisor, w Wanted, digest ConfigDigest) (seen Seen, err error) {
	seen.Observation, err = s.Observe(ctx, w.Unit.Name)
	if err != nil || !seen.Running() || digest == nil {
		return seen, err
	}
	seen.Config, err = digest(ctx)
	return seen, err
}

func act(ctx context.Context, s Supervisor, w Wanted, a Act) (deferred bool, err error) {
	if err := s.Install(ctx, w.Unit); err != nil {
		return false, err
	}
	if a == Replace {
		return false, s.Reload(ctx, w.Unit.Name)
	}
	if w.SocketOf.Name != "" {
		return actOnSocket(ctx, s, w, a)
	}
	if a == Recreate {
		return false, s.Restart(ctx, w.Unit.Name)
	}
	return false, s.Start(ctx, w.Unit.Name)
}

// actOnSocket knows that systemd refuses to open a socket whose service is up. A new socket
// then waits for the service's next start; one at another address needs the service to stop first.
func actOnSocket(ctx context.Context, s Supervisor, w Wanted, a Act) (deferred bool, err error) {
	name := w.SocketOf.Name
	service, err := s.Observe(ctx, name)
	if err != nil {
		return false, err
	}
	if !service.File {
		// Nor does it open one whose service it has never heard of.
		if err := s.Install(ctx, w.SocketOf); err != nil {
			return false, err
		}
	}
	if !service.Running() {
		return false, s.Restart(ctx, w.Unit.Name)
	}
	if a == Create {
		return true, nil
	}
	if err := s.Stop(ctx, name); err != nil {
		return false, err
	}
	if err := s.Restart(ctx, w.Unit.Name); err != nil {
		// The service binds for itself what it was not handed.
		return false, errors.Join(err, s.Start(ctx, name))
	}
	return false, s.Start(ctx, name)
}
