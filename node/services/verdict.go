package services

import (
	"fmt"

	"github.com/ployz/ployz/units"
)

// Wanted is what a unit should be.
type Wanted struct {
	Unit units.Unit
	// HandOver says that Reload replaces the program without refusing a request.
	HandOver bool
	// Config is the digest of the configuration on disk, for a service that reports the one it
	// runs with; "" for others. ReloadTakesConfig says that Reload takes a new one over.
	Config            string
	ReloadTakesConfig bool
	// SocketOf is the service that a socket unit's listeners go to, zero for other units.
	SocketOf units.Unit
}

// Seen is what was observed of it.
type Seen struct {
	units.Observation
	// Config is the digest that the running service reports, "" when it was not asked.
	Config string
}

// Act is what an observation calls for.
type Act string

// The acts, by how much they disturb what serves.
const (
	// Adopt: it runs as wanted.
	Adopt Act = "adopt"
	// Leave: it cannot be told, or is not ours to touch; the reasons are for the operator.
	Leave Act = "leave"
	// Create: nothing runs; install and start.
	Create Act = "create"
	// Replace: only what a reload takes over differs; nothing is refused meanwhile.
	Replace Act = "replace"
	// Recreate: install and restart.
	Recreate Act = "recreate"
)

// Decision is an act with its reasons, in words.
type Decision struct {
	Act     Act      `json:"act"`
	Reasons []string `json:"reasons,omitempty"`
}

// Verdict decides. seenErr is why the observation failed, if it did: an inconclusive
// observation is Leave, never an excuse to restart what may well be serving.
//
//	observation failed, masked, foreign file, stopping        Leave
//	not running, or failed                                    Create
//	between starts (crash loop), wanted text                  Leave
//	running: text, running text or digest differ              Recreate
//	running: only what a reload takes over differs            Replace
//	running, all equal                                        Adopt
func Verdict(w Wanted, s Seen, seenErr error) Decision {
	if why := inconclusive(w, s, seenErr); why != "" {
		return Decision{Leave, []string{why}}
	}
	hard, soft := drift(w, s)
	switch {
	case s.Active == "activating" && len(hard) == 0:
		return Decision{Leave, []string{"it is being started: " + s.Sub}}
	case !s.Running() && s.Active != "activating":
		return Decision{Create, []string{notRunning(s)}}
	case len(hard) > 0:
		return Decision{Recreate, append(hard, soft...)}
	case len(soft) > 0:
		return Decision{Replace, soft}
	}
	return Decision{Act: Adopt, Reasons: remarks(s)}
}

func inconclusive(w Wanted, s Seen, seenErr error) string {
	switch {
	case seenErr != nil:
		return "it could not be observed: " + seenErr.Error()
	case s.Masked:
		return "it is masked; allow it again with: systemctl unmask " + w.Unit.Name
	case s.File && s.Identity == "":
		return "a unit file of that name exists that ployz did not write"
	case s.Active == "deactivating" || s.Active == "reloading":
		return "it is " + s.Active
	case s.Running() && s.MainPID != 0 && s.RunningIdentity == "":
		return fmt.Sprintf("the identity of its process %d could not be read", s.MainPID)
	case s.Running() && w.Config != "" && s.Config == "":
		return "it runs but does not say with which configuration"
	}
	return ""
}

// drift returns the differences that need a restart, and those that a reload takes over.
func drift(w Wanted, s Seen) (hard, soft []string) {
	switch {
	case s.Identity != w.Unit.Identity:
		hard = append(hard, fmt.Sprintf("the unit file has identity %s, wanted is %s", brief(orNone(s.Identity)), brief(w.Unit.Identity)))
	case !s.Intact:
		hard = append(hard, "the unit file was changed by hand")
	case s.MainPID != 0 && s.RunningIdentity != w.Unit.Identity:
		hard = append(hard, "it was started from an older unit file, "+brief(s.RunningIdentity))
	}
	if s.ExecutableStale {
		reason := "another program is at " + s.Executable + " than the one running"
		hard, soft = sort(w.HandOver, reason, hard, soft)
	}
	if s.Running() && w.Config != s.Config && w.Config != "" {
		reason := fmt.Sprintf("it runs with configuration %s, wanted is %s", s.Config, w.Config)
		hard, soft = sort(w.ReloadTakesConfig, reason, hard, soft)
	}
	return hard, soft
}

func sort(reloads bool, reason string, hard, soft []string) ([]string, []string) {
	if reloads {
		return hard, append(soft, reason)
	}
	return append(hard, reason), soft
}

// brief is as much of an identity as tells two apart for a reader.
func brief(identity string) string { return identity[:min(len(identity), 12)] }

func notRunning(s Seen) string {
	switch {
	case !s.Present():
		return "it is not there"
	case s.Active == "failed":
		return "it has failed: " + s.Result
	}
	return "it is not running"
}

// remarks are for the operator and call for no act.
func remarks(s Seen) (r []string) {
	if !s.Enabled {
		r = append(r, "it does not start at boot")
	}
	for _, d := range s.DropIns {
		r = append(r, "changed by "+d)
	}
	return r
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}
