package units

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"time"
)

// Unit is one unit file.
type Unit struct {
	// Name is the file's name, such as "ployz-dns.socket".
	Name string
	Text string
	// Identity is the hash that Text carries.
	Identity string
}

// Observation is a unit as found: on disk, in systemd and in /proc. Never stored.
type Observation struct {
	Name string
	// File says whether a unit file exists where we write ours; Identity is what it carries, ""
	// for a file that is not ours; Intact whether the text still hashes to it.
	File     bool
	Identity string
	Intact   bool
	// Masked and Enabled are the operator's and our word on starting at boot; DropIns are
	// files that change the unit beyond its text.
	Masked  bool
	Enabled bool
	DropIns []string
	// Load, Active, Sub and Result are systemd's own words. NeedReload says that systemd has
	// read an older text than the one on disk.
	Load, Active, Sub, Result string
	NeedReload                bool
	// MainPID and what follows are of the main process, 0 and "" without one.
	MainPID int
	// ProcessStart is the process's start in clock ticks since boot, which tells it from a later one of the same pid.
	ProcessStart uint64
	// RunningIdentity is the identity the process was started with, "" when it cannot be told.
	RunningIdentity string
	// Executable is the program file's path; ExecutableStale says that the file there now holds
	// another program than the one running. Only read for processes that carry RunningIdentity.
	Executable      string
	ExecutableStale bool
	ControlGroup    string
	// Frozen says that the unit's processes stand still.
	Frozen   bool
	Started  time.Time
	Restarts int
	// ExitCode is the last exit status of the main process, 128 + n after signal n, -1 while
	// none has ended.
	ExitCode int
}

// Running says whether the unit is up: a process, a listening socket, or a oneshot that remains.
func (o Observation) Running() bool { return o.Active == "active" || o.Active == "reloading" }

// Present says whether there is anything at all: a file of any origin, or a loaded unit.
func (o Observation) Present() bool {
	return o.File || (o.Load != "" && o.Load != "not-found") || o.Running()
}

// schema changes when equal texts come to mean different units.
const schema = "ployz-unit-1\n"

// identityKey begins the line that carries the identity; environmentKey the one that passes it on.
const (
	identityKey    = "X-Ployz-Identity="
	environmentKey = "Environment=" + IdentityVariable + "="
)

// IdentityVariable is the environment variable through which a process knows its unit's identity.
const IdentityVariable = "PLOYZ_UNIT_IDENTITY"

// Check returns the identity that a unit file's text carries, "" for one that is not ours, and whether
// the text hashes to it.
func Check(text string) (identity string, intact bool) {
	for line := range strings.Lines(text) {
		if v, ok := strings.CutPrefix(line, identityKey); ok {
			identity = strings.TrimSpace(v)
			break
		}
	}
	return identity, identity != "" && identity == hash(text)
}

// Stamp returns a unit of any text with its identity put in: a line after [Unit], and the
// variable after [Service] where there is one. It is for units that have no template here.
func Stamp(name, text string) Unit {
	blank := strings.Replace(text, "[Unit]\n", "[Unit]\n"+identityKey+"\n", 1)
	blank = strings.Replace(blank, "[Service]\n", "[Service]\n"+environmentKey+"\n", 1)
	identity := hash(blank)
	stamped := strings.Replace(blank, identityKey+"\n", identityKey+identity+"\n", 1)
	stamped = strings.Replace(stamped, environmentKey+"\n", environmentKey+identity+"\n", 1)
	return Unit{Name: name, Text: stamped, Identity: identity}
}

// hash is over the text without the values that hold the hash.
func hash(text string) string {
	h := sha256.New()
	h.Write([]byte(schema))
	for line := range strings.Lines(text) {
		for _, key := range []string{identityKey, environmentKey} {
			if strings.HasPrefix(line, key) {
				line = key + "\n"
			}
		}
		h.Write([]byte(line))
	}
	return hex.EncodeToString(h.Sum(nil)[:16])
}
