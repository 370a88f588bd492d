package api

import "time"

// Spec is what an operator asks for in one namespace: the input of a deploy. A Compose file is
// one way to write it. Unset fields mean the safer choice, which each field states.
type Spec struct {
	Namespace string             `json:"namespace"`
	Services  map[string]Service `json:"services"`
	// Secrets and Configs are the values that the services name. A secret's value travels
	// to the daemon over the socket and is sealed before anything is stored.
	Secrets map[string]Secret `json:"secrets,omitempty"`
	Configs map[string]Config `json:"configs,omitempty"`
	// Volumes are what the services mount, by name.
	Volumes map[string]Volume `json:"volumes,omitempty"`
	// Retention is what the namespace keeps of its past; nil is all defaults.
	Retention *Retention `json:"retention,omitempty"`
}

// Service is what was asked for; instances are its running copies. With Job set it is a
// one-shot run that the deploy waits for.
type Service struct {
	// Image is the reference as written; Digest is "sha256:…" once planned.
	Image  string `json:"image"`
	Digest string `json:"digest,omitempty"`

	Process   Process   `json:"process"`
	Files     []File    `json:"files,omitempty"`
	Tmpfs     []Tmpfs   `json:"tmpfs,omitempty"`
	Mounts    []Mount   `json:"mounts,omitempty"`
	Ports     []Port    `json:"ports,omitempty"`
	Routes    []Route   `json:"routes,omitempty"`
	Ready     *Probe    `json:"ready,omitempty"`
	Placement Placement `json:"placement"`
	Update    Update    `json:"update"`
	Quiesce   *Quiesce  `json:"quiesce,omitempty"`
	Resources Resources `json:"resources"`
	Restart   Restart   `json:"restart"`
	Security  Security  `json:"security"`

	// DependsOn orders the start: this service's instances start when the named services
	// have reached the condition.
	DependsOn map[string]Condition `json:"dependsOn,omitempty"`
	Job       *Job                 `json:"job,omitempty"`
	// Exports lists the namespaces whose workloads may find this service by name; "*" is all.
	Exports []string          `json:"exports,omitempty"`
	Labels  map[string]string `json:"labels,omitempty"`
}

// Process is what runs. Nil Entrypoint and Command mean the image's own.
type Process struct {
	Entrypoint []string          `json:"entrypoint,omitempty"`
	Command    []string          `json:"command,omitempty"`
	Env        map[string]string `json:"env,omitempty"`
	// SecretEnv maps a variable to the secret that holds its value.
	SecretEnv  map[string]string `json:"secretEnv,omitempty"`
	WorkDir    string            `json:"workDir,omitempty"`
	User       string            `json:"user,omitempty"`
	Hostname   string            `json:"hostname,omitempty"`
	ExtraHosts map[string]string `json:"extraHosts,omitempty"`
	StopSignal string            `json:"stopSignal,omitempty"`
	// StopGrace is how long the process may take to end; 0 means 10 s.
	StopGrace Duration `json:"stopGrace,omitempty"`
}

// File places a secret's or a config's content into the instance. Exactly one of Secret and
// Config is set. Secrets live in memory only inside the machine.
type File struct {
	Secret string `json:"secret,omitempty"`
	Config string `json:"config,omitempty"`
	Target string `json:"target"`
	UID    int    `json:"uid,omitempty"`
	GID    int    `json:"gid,omitempty"`
	// Mode are the permission bits; 0 means 0400 for a secret and 0444 for a config.
	Mode uint32 `json:"mode,omitempty"`
}

// Tmpfs is a memory file system inside the instance.
type Tmpfs struct {
	Target    string `json:"target"`
	SizeBytes int64  `json:"sizeBytes,omitempty"`
	Mode      uint32 `json:"mode,omitempty"`
}

// Port publishes an instance's port on the machine it runs on.
type Port struct {
	// Listen is the machine's address; "" is all of them.
	Listen    string `json:"listen,omitempty"`
	Published uint16 `json:"published"`
	Target    uint16 `json:"target"`
	// Protocol is "tcp" or "udp".
	Protocol string `json:"protocol"`
}

// Route sends requests that reach any gateway to the service. Either Host or TCP is set.
type Route struct {
	Host string `json:"host,omitempty"`
	// Path is a prefix on segment borders; "" means "/".
	Path        string `json:"path,omitempty"`
	StripPrefix bool   `json:"stripPrefix,omitempty"`
	// TCP is the gateway port of a layer-4 route.
	TCP uint16 `json:"tcp,omitempty"`
	// Port is the instance's port.
	Port uint16 `json:"port"`
	// Protocol towards the instance: "http" (default) or "h2c".
	Protocol string `json:"protocol,omitempty"`
	// ProxyProtocol sends the client's address ahead of a TCP route's bytes: "", "v1", "v2".
	ProxyProtocol string `json:"proxyProtocol,omitempty"`
	// RedirectHTTPS answers plain HTTP with a redirect.
	RedirectHTTPS bool `json:"redirectHTTPS,omitempty"`
}

// Probe asks an instance whether it is ready. Exactly one of HTTP, TCP and Exec is set.
type Probe struct {
	HTTP *HTTPProbe `json:"http,omitempty"`
	TCP  *TCPProbe  `json:"tcp,omitempty"`
	Exec []string   `json:"exec,omitempty"`
	// Interval between tries (0: 100 ms; the first are no further apart than that), Timeout of one try (0: 2 s), Deadline for the
	// instance to become ready (0: 60 s).
	Interval Duration `json:"interval,omitempty"`
	Timeout  Duration `json:"timeout,omitempty"`
	Deadline Duration `json:"deadline,omitempty"`
}

// HTTPProbe is ready on any 2xx or 3xx answer.
type HTTPProbe struct {
	Path string `json:"path"`
	Port uint16 `json:"port"`
	Host string `json:"host,omitempty"`
}

// TCPProbe is ready when a connection is accepted.
type TCPProbe struct {
	Port uint16 `json:"port"`
}

// Placement says how many instances, and where they may run.
type Placement struct {
	// Global runs one instance on every eligible machine; otherwise Replicas (0 means 1; see Zero).
	Global   bool `json:"global,omitempty"`
	Replicas int  `json:"replicas,omitempty"`
	// Zero asks for no instances at all: the service is kept, but stopped.
	Zero     bool     `json:"zero,omitempty"`
	Machines []string `json:"machines,omitempty"`
	Regions  []string `json:"regions,omitempty"`
	Zones    []string `json:"zones,omitempty"`
}

// Update says how instances are replaced.
type Update struct {
	// Order is "start-first" (the new serves before the old stops) or "stop-first". Unset is stop-first for a
	// service that writes a volume, since two never write one data set at once, and start-first for all others.
	Order string `json:"order,omitempty"`
	// Drain is how long open connections of the old may go on; 0 means 10 s.
	Drain Duration `json:"drain,omitempty"`
}

// Resources are limits of one instance; 0 is unlimited.
type Resources struct {
	CPUs        float64 `json:"cpus,omitempty"`
	MemoryBytes int64   `json:"memoryBytes,omitempty"`
	PIDs        int64   `json:"pids,omitempty"`
	// IOWeight is 1 to 10000; 0 leaves systemd's 100.
	IOWeight int `json:"ioWeight,omitempty"`
	// ReserveCPUs and ReserveMemoryBytes count against a machine's capacity at placement.
	ReserveCPUs        float64 `json:"reserveCPUs,omitempty"`
	ReserveMemoryBytes int64   `json:"reserveMemoryBytes,omitempty"`
}

// Restart is systemd's own policy, rendered into the instance's unit.
type Restart struct {
	// Policy is "no", "on-failure" or "always" (default).
	Policy      string   `json:"policy,omitempty"`
	Delay       Duration `json:"delay,omitempty"`
	MaxAttempts int      `json:"maxAttempts,omitempty"`
	Window      Duration `json:"window,omitempty"`
}

// Security loosens or tightens the defaults: Docker's capabilities and seccomp profile, no new
// privileges.
type Security struct {
	CapAdd   []string          `json:"capAdd,omitempty"`
	CapDrop  []string          `json:"capDrop,omitempty"`
	ReadOnly bool              `json:"readOnly,omitempty"`
	Devices  []Device          `json:"devices,omitempty"`
	Ulimits  map[string]Ulimit `json:"ulimits,omitempty"`
	Sysctls  map[string]string `json:"sysctls,omitempty"`
	// NewPrivileges allows setuid programs to raise privileges.
	NewPrivileges bool `json:"newPrivileges,omitempty"`
	// SeccompUnconfined turns the system-call filter off.
	SeccompUnconfined bool `json:"seccompUnconfined,omitempty"`
	// Init runs a tiny init as process 1 that reaps children and passes signals on.
	Init bool `json:"init,omitempty"`
}

// Device passes one of the machine's devices in.
type Device struct {
	Source string `json:"source"`
	Target string `json:"target"`
	// Permissions is a subset of "rwm"; "" means "rwm".
	Permissions string `json:"permissions,omitempty"`
}

// Ulimit is a pair of resource limits.
type Ulimit struct {
	Soft int64 `json:"soft"`
	Hard int64 `json:"hard"`
}

// Condition is what a dependency must have reached.
type Condition string

// The conditions of DependsOn.
const (
	Started   Condition = "started"
	Ready     Condition = "ready"
	Completed Condition = "completed"
)

// Job makes a service a one-shot run.
type Job struct {
	// When is "before" the services of the deploy switch over, "after" the commit, or "branch": then it runs only in a
	// new branch, when what it depends on is ready and before anything else starts.
	When string `json:"when"`
	// Deadline for the run; 0 means 5 minutes.
	Deadline Duration `json:"deadline,omitempty"`
}

// Secret is the value of a secret on its way in, or a reference to one set earlier.
type Secret struct {
	// Value is the plain text; it is never stored or logged. Nil with External.
	Value []byte `json:"value,omitempty"`
	// External refers to a secret made with `ployzctl secret set`.
	External bool `json:"external,omitempty"`
	// Name is the stored name; "" is the key under which the spec lists it.
	Name string `json:"name,omitempty"`
}

// Config is the value of a configuration file, or a reference to one set earlier.
type Config struct {
	Content  []byte `json:"content,omitempty"`
	External bool   `json:"external,omitempty"`
	Name     string `json:"name,omitempty"`
}

// Duration is a time.Duration that JSON shows as text, "1m30s".
type Duration time.Duration

// D returns the duration, or fallback for the zero value.
func (d Duration) D(fallback time.Duration) time.Duration {
	if d == 0 {
		return fallback
	}
	return time.Duration(d)
}

// String is time.Duration's own form.
func (d Duration) String() string { return time.Duration(d).String() }

// MarshalText implements encoding.TextMarshaler.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *Duration) UnmarshalText(text []byte) error {
	v, err := time.ParseDuration(string(text))
	if err != nil {
		return Errorf(CodeBadRequest, "%q is not a duration such as 10s or 1m30s", text)
	}
	*d = Duration(v)
	return nil
}
