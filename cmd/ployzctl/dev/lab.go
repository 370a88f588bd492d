package dev

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/ployz/ployz/node/api"
)

// maxMachines keeps every machine inside the underlay's /24, clear of the bridge's address.
const maxMachines = 200

// The underlay, the same in every lab: machine N is 10.90.0.N and fd90:10:90::N.
const (
	underlay4 = "10.90.0."
	underlay6 = "fd90:10:90::"
	// bridgeHost is the lab's own address on the bridge, from which `exec N/client` talks.
	bridgeHost = "254"
)

// clientPlace is the machine name that means "in the lab's network, outside of every machine".
const clientPlace = "client"

// Options say which lab to bring up.
type Options struct {
	// Name of the lab: 1 to 24 of a-z, 0-9 and '-', starting with a letter.
	Name string
	// Machines is how many; 0 means as many as the lab has, or 1 for a new one.
	Machines int
	// Debs are paths of packages to install in every machine, in this order.
	Debs []string
	// Tree is a Debian root folder or a tar of one to boot instead of the host's own root; "" = host.
	Tree string
	// DiskImages gives each machine's /var/lib/ployz a disk of its own, so that PowerCut loses what was
	// not synced to it. Only for a new lab.
	DiskImages bool
	// NAT names machines to put behind a router of their own that masquerades: others can answer them
	// and not call them. Only for machines that are new.
	NAT []string
	// Progress is told each step in a few words; nil is fine.
	Progress func(text string)
}

func (o Options) say(parts ...string) {
	if o.Progress != nil {
		o.Progress(strings.Join(parts, " "))
	}
}

// State of a machine, as systemd in it puts it, or Off when it is not booted.
type State string

// Off is a machine whose disk exists and that is not running.
const Off State = "off"

// Machine is one machine of a lab as found now.
type Machine struct {
	Name   string   `json:"name"`
	State  State    `json:"state"`
	IPv4   string   `json:"ipv4"`
	IPv6   string   `json:"ipv6"`
	NAT    bool     `json:"nat,omitempty"`    // the addresses are its router's
	Leader int      `json:"leader,omitempty"` // PID of its systemd, as the host sees it
	Failed []string `json:"failed_units,omitempty"`
}

// Lab is one lab as found now.
type Lab struct {
	Name     string    `json:"name"`
	Machines []Machine `json:"machines"`
	// Tree is what the machines boot from; "" is the host's own root.
	Tree string `json:"tree,omitempty"`
	// Packages are the file names of the packages that Up installed.
	Packages []string `json:"packages,omitempty"`
	// Faults are what is wrong with the underlay, as Partition, BlockProtocol and Delay made it.
	Faults []Fault `json:"faults,omitempty"`
	// DiskImages says that a power cut loses what was not synced.
	DiskImages bool   `json:"disk_images,omitempty"`
	Folder     string `json:"folder"`
}

// plan is what lab.json keeps: what was asked for, so that an interrupted Up can be finished.
type plan struct {
	Machines   int       `json:"machines"`
	Tree       string    `json:"tree,omitempty"`
	DiskImages bool      `json:"disk_images,omitempty"`
	NAT        []string  `json:"nat,omitempty"`
	Created    time.Time `json:"created"`
	// Installed maps "m1" to the digests of the packages that are in it.
	Installed map[string][]string `json:"installed,omitempty"`
	Packages  []string            `json:"packages,omitempty"`
}

// lab is the working form: a name and the places that follow from it.
type lab struct {
	name  string
	state string // folder of disks and lab.json
	run   string // folder whose lock serialises up and down
	plan  plan
	held  *os.File // the lock, while this process has it
}

var goodName = regexp.MustCompile(`^[a-z]([a-z0-9-]{0,22}[a-z0-9])?$`)

func newLab(name string) (*lab, error) {
	if !goodName.MatchString(name) {
		return nil, api.Errorf(api.CodeDevName, "%q is no name for a lab: use 1 to 24 of a-z, 0-9 and '-', starting with a letter", name).
			WithHint("ployzctl dev up --name demo")
	}
	return &lab{name: name, state: filepath.Join(stateRoot(), name), run: filepath.Join("/run/ployz-dev", name)}, nil
}

// openLab returns a lab that exists, with its plan read.
func openLab(name string) (*lab, error) {
	l, err := newLab(name)
	if err != nil {
		return nil, err
	}
	if err := l.read(); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, noLab(name)
		}
		return nil, err
	}
	return l, nil
}

func noLab(name string) error {
	return api.Errorf(api.CodeDevNoLab, "there is no lab %q", name).WithHint("ployzctl dev ls, or ployzctl dev up --name %s", name)
}

// stateRoot is where disks live. Overlay upper layers cannot be on overlayfs, so in a
// container it may have to point at a volume.
func stateRoot() string {
	if dir := os.Getenv("PLOYZ_DEV_STATE"); dir != "" {
		return filepath.Clean(dir)
	}
	return "/var/lib/ployz-dev"
}

func (l *lab) planFile() string           { return filepath.Join(l.state, "lab.json") }
func (l *lab) disk(machine string) string { return filepath.Join(l.state, machine) }
func (l *lab) console(m string) string    { return filepath.Join(l.disk(m), "console.log") }
func (l *lab) path(parts ...string) string {
	return filepath.Join(append([]string{l.state}, parts...)...)
}

func (l *lab) read() error {
	text, err := os.ReadFile(l.planFile())
	if err != nil {
		return err
	}
	if err := json.Unmarshal(text, &l.plan); err != nil {
		return api.Errorf(api.CodeDevBroken, "%s cannot be read: %w", l.planFile(), err).WithHint("ployzctl dev down --name %s", l.name)
	}
	return nil
}

func (l *lab) write() error {
	text, err := json.MarshalIndent(l.plan, "", "  ")
	if err != nil {
		return err
	}
	tmp := l.planFile() + ".tmp"
	if err := os.WriteFile(tmp, append(text, '\n'), 0o644); err != nil {
		return err
	}
	return os.Rename(tmp, l.planFile())
}

// machines are the names m1…mK of the plan.
func (l *lab) machines() []string {
	names := make([]string, l.plan.Machines)
	for i := range names {
		names[i] = "m" + strconv.Itoa(i+1)
	}
	return names
}

// number returns N of "mN", or a typed error when the lab has no such machine.
func (l *lab) number(machine string) (int, error) {
	n, err := strconv.Atoi(strings.TrimPrefix(machine, "m"))
	if err != nil || n < 1 || n > l.plan.Machines || machine != "m"+strconv.Itoa(n) {
		return 0, api.Errorf(api.CodeDevNoMachine, "lab %s has no machine %q: it has m1 to m%d, and client for the network outside of them",
			l.name, machine, l.plan.Machines).WithHint("ployzctl dev ls --name %s", l.name)
	}
	return n, nil
}

// lock serialises up, down and boot of one lab. The folder itself carries the lock; as down
// removes the folder, whoever gets a lock checks that it is still the one at the path.
func (l *lab) lock() (unlock func(), err error) {
	for {
		if err := os.MkdirAll(l.run, 0o755); err != nil {
			return nil, err
		}
		dir, err := os.Open(l.run)
		if err != nil {
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			return nil, err
		}
		if err := syscall.Flock(int(dir.Fd()), syscall.LOCK_EX); err != nil {
			dir.Close()
			return nil, err
		}
		if l.sameFolder(dir) {
			l.held = dir
			return func() { dir.Close(); l.held = nil }, nil
		}
		dir.Close()
	}
}

func (l *lab) sameFolder(dir *os.File) bool {
	locked, err := dir.Stat()
	if err != nil {
		return false
	}
	there, err := os.Stat(l.run)
	return err == nil && os.SameFile(locked, there)
}
