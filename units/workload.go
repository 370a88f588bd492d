package units

import (
	"time"
)

// WorkloadPrefix begins the unit name of every instance; WorkloadPattern matches them all.
const (
	WorkloadPrefix  = "ployz-workload@"
	WorkloadPattern = WorkloadPrefix + "*.service"
)

// WorkloadService is the unit name of an instance.
func WorkloadService(id string) string { return WorkloadPrefix + id + ".service" }

// WorkloadCgroup is the cgroup of an instance's unit.
func WorkloadCgroup(id string) string {
	return "/ployz.slice/ployz-workloads.slice/" + WorkloadService(id)
}

// Workload describes the unit of one instance.
type Workload struct {
	ID, Namespace, Service, Slot string
	// Prepare and Start are command lines as Command quotes them; Create, Delete and ForceDelete
	// may hold plain words only.
	Prepare, Create, Start, Delete, ForceDelete string
	// PIDFile lies in RuntimeDirectory, which is relative to /run and exists while the unit does.
	PIDFile, RuntimeDirectory string
	// ExitFile gets how the main process ended, "exited 3" or "killed TERM".
	ExitFile string
	// Restart is systemd's word: "no", "on-failure" or "always".
	Restart      string
	RestartDelay time.Duration // 0 means 1 s
	// MaxAttempts is how often it is restarted within Window before the unit fails for good;
	// 0 is without end. A zero Window counts all attempts since the last explicit start.
	MaxAttempts int
	Window      time.Duration
	StopSignal  string        // "" means SIGTERM
	StopGrace   time.Duration // 0 means 10 s
	// Folders are the volumes' paths: what they lie on is mounted first, whoever mounts it.
	Folders []string
	// Limits are whole directives such as "MemoryMax=1048576".
	Limits []string
}

// Render returns the instance's unit.
func (w Workload) Render() (Unit, error) {
	if w.StopSignal == "" {
		w.StopSignal = "SIGTERM"
	}
	burst, interval := 0, "0"
	if w.MaxAttempts > 0 {
		// The first start counts too.
		burst, interval = w.MaxAttempts+1, "infinity"
		if w.Window > 0 {
			interval = seconds(w.Window)
		}
	}
	arguments := func(identity string) any {
		return struct {
			Workload
			Identity, Cgroup, RestartDelay, StopGrace, StartLimitInterval string
			StartLimitBurst                                               int
		}{w, identity, "/sys/fs/cgroup" + WorkloadCgroup(w.ID), secondsOr(w.RestartDelay, time.Second), secondsOr(w.StopGrace, 10*time.Second), interval, burst}
	}
	return render(WorkloadService(w.ID), "ployz-workload@.service.tmpl", arguments)
}

func secondsOr(d, fallback time.Duration) string {
	if d == 0 {
		d = fallback
	}
	return seconds(d)
}
