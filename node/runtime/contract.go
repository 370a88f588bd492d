package runtime

import (
	"context"
	"io"
	"time"
)

// Runtime makes instances run on this machine.
//
// Life cycle: Prepare → Start → Stop → Remove. Every call is safe to repeat, and Stop and
// Remove are safe on an instance that was never prepared. An instance is durable once Prepare
// returns: it is on disk and enabled, and after a power cut the machine starts it if Start had
// returned, with no daemon needed.
type Runtime interface {
	// Prepare writes bundle, link, root file system and unit, without starting anything. It
	// attaches the link through Network but publishes no port: only the caller knows when a
	// predecessor lets go of it. Errors: runtime.invalid-spec, runtime.unsupported,
	// runtime.conflict (the id exists with another identity), runtime.controller-missing (a
	// limit that this kernel cannot enforce), runtime.disk-full, network.*, image.*.
	Prepare(ctx context.Context, spec Spec, image Image, addrs Addresses) error
	// Start starts the unit and returns when its process runs. A running instance is left
	// alone; an ended one, job or not, runs again. A job is never started at boot. Errors:
	// runtime.start-failed (with the unit's last log lines), runtime.not-found.
	Start(ctx context.Context, id string) error
	// Stop ends the instance with its stop signal and grace, and keeps it from starting at
	// boot. Errors: runtime.stop-failed.
	Stop(ctx context.Context, id string) error
	// Remove deletes the unit, the link, the files and the writable layer of a stopped
	// instance. Errors: runtime.busy (it runs).
	Remove(ctx context.Context, id string) error
	// Inspect observes one instance. Errors: runtime.not-found.
	Inspect(ctx context.Context, id string) (Observation, error)
	// List observes every instance that carries our mark.
	List(ctx context.Context) ([]Observation, error)
}

// Observation is what is so now, from systemd, runc and the disk; never stored.
type Observation struct {
	ID        string
	Spec      Spec
	Addresses Addresses
	Unit      string
	// State is one of the State constants.
	State    string
	MainPID  int
	Started  time.Time
	Restarts int
	// ExitCode is the last exit status of a stopped instance or finished job, 128 + n after
	// signal n; -1 while unknown.
	ExitCode int
	Cgroup   string
	// Frozen says that its processes stand still; see Console.Freeze.
	Frozen bool
	// Boot says whether the machine starts the instance by itself after a power cut.
	Boot bool
	// Drift lists, in words, how the instance differs from its own recorded identity.
	Drift []string
}

// The states of an instance. A job that ended with status 0 is stopped, any other end is failed.
const (
	StateRunning  = "running"
	StateStopped  = "stopped"
	StateFailed   = "failed"
	StateStarting = "starting"
	StateUnknown  = "unknown"
)

// Console reaches into running instances.
type Console interface {
	// Exec runs a command inside and returns its exit status, 128 + n after signal n. Errors:
	// runtime.not-found, runtime.not-running, runtime.command-not-found, runtime.command-not-executable,
	// runtime.exec-failed (it never ran).
	Exec(ctx context.Context, id string, cmd Command) (int, error)
	// Logs writes the journal's entries of the query in order, until the end or, with Follow,
	// until ctx ends, which is no error. Errors: runtime.logs-failed, emit's own.
	Logs(ctx context.Context, query LogQuery, emit func(LogLine) error) error
	// Stats reads one instance's counters. Errors: runtime.not-found, runtime.not-running.
	Stats(ctx context.Context, id string) (Stats, error)
	// Freeze makes all processes of an instance stand still, and returns when they do. They go on at the latest after
	// atMost, counted from the call and whatever has become of the caller. Errors: runtime.not-found,
	// runtime.not-running, runtime.freeze-failed.
	Freeze(ctx context.Context, id string, atMost time.Duration) error
	// Thaw lets them go on; safe for an instance that is not frozen or not there. Errors: runtime.freeze-failed.
	Thaw(ctx context.Context, id string) error
}

// Command is what Exec runs. With TTY, Stdin and Stdout are the terminal and Stderr is unused.
type Command struct {
	Args    []string
	Env     []string
	User    string
	WorkDir string
	TTY     bool
	Stdin   io.Reader
	Stdout  io.Writer
	Stderr  io.Writer
	// Resize delivers new terminal sizes until it is closed.
	Resize <-chan Size
}

// Size is a terminal's size in characters.
type Size struct{ Columns, Rows uint16 }

// LogQuery selects journal entries. Empty fields select everything.
type LogQuery struct {
	Namespace, Service, Instance string
	// Lines is how many of the last lines to begin with; -1 is all of them.
	Lines  int
	Since  time.Time
	Follow bool
}

// LogLine is one line that an instance wrote.
type LogLine struct {
	Time      time.Time `json:"time"`
	Namespace string    `json:"namespace"`
	Service   string    `json:"service"`
	Instance  string    `json:"instance"`
	// Stream is "stdout" or "stderr" where the journal can tell, else "".
	Stream  string `json:"stream,omitempty"`
	Message string `json:"message"`
}

// Stats are an instance's counters since its start, and its present use. A counter that this kernel
// does not keep is -1.
type Stats struct {
	CPU         time.Duration `json:"cpuNanos"`
	MemoryBytes int64         `json:"memoryBytes"`
	PIDs        int64         `json:"pids"`
	ReadBytes   int64         `json:"readBytes"`
	WriteBytes  int64         `json:"writeBytes"`
	RxBytes     int64         `json:"rxBytes"`
	TxBytes     int64         `json:"txBytes"`
}

// Network links instances to the machine's bridge. The composition root adapts the data path to it.
type Network interface {
	// Attach ensures the pinned namespace, the veth and the addresses, durable for boot.
	// Errors: network.*.
	Attach(ctx context.Context, id string, namespace uint32, addrs Addresses) error
	// Publish replaces the instance's published ports; none removes them. Errors:
	// network.port-taken, naming who holds it.
	Publish(ctx context.Context, id string, addrs Addresses, ports []PublishedPort) error
	// Detach undoes Attach and Publish; safe when nothing was done.
	Detach(ctx context.Context, id string) error
	// Taken reports the addresses that instances hold, from disk.
	Taken(ctx context.Context) (map[string]Addresses, error)
}

// PublishedPort is a port of the machine that leads to an instance.
type PublishedPort struct {
	Listen    string
	Published uint16
	Target    uint16
	Protocol  string
}
