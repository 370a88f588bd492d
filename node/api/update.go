package api

// Package is one file that installs Ployz on a machine.
type Package struct {
	// Digest is the SHA-256 of the file, in hexadecimal.
	Digest       string `json:"digest"`
	Version      string `json:"version"`
	Architecture string `json:"architecture"`
	Bytes        int64  `json:"bytes"`
}

// MachineUpdateRequest installs a package on machines, one after the other.
type MachineUpdateRequest struct {
	// Digest names a package that the machine which is asked holds; "" goes on with the last update.
	Digest string `json:"digest,omitempty"`
	// Machines are names; none is all.
	Machines []string `json:"machines,omitempty"`
}

// MachineUpdateResult is the value of a machine.update's outcome.
type MachineUpdateResult struct {
	Package Package `json:"package"`
	// Updated names the machines that run it, in their order.
	Updated []string `json:"updated"`
	// Detached is the machine that coordinated, where it was updated too: its installation goes on by itself when
	// the operation has ended. GET /v1/update on it tells how.
	Detached string `json:"detached,omitempty"`
}

// MachineVersion is what a machine runs. An observation.
type MachineVersion struct {
	Machine string `json:"machine,omitempty"`
	// Version is the daemon's, Installed the package's; "" where the machine has no dpkg.
	Version      string `json:"version"`
	Installed    string `json:"installed,omitempty"`
	Architecture string `json:"architecture"`
	// Adopted says that the daemon has looked at everything that serves since it started, and Problems what it could
	// not bring to its own version.
	Adopted  bool     `json:"adopted"`
	Problems []string `json:"problems,omitempty"`
	// Holds are the digests of the packages on the machine's disk.
	Holds []string `json:"holds,omitempty"`
	// Install is the last installation that an update began here.
	Install *Installation `json:"install,omitempty"`
}

// States of an installation.
const (
	InstallUnderWay = "under-way"
	InstallDone     = "done"
	InstallFailed   = "failed"
)

// Installation is how far a package's installation is.
type Installation struct {
	Digest string `json:"digest"`
	// State is InstallUnderWay, InstallDone or InstallFailed.
	State string `json:"state"`
	// Log is the end of what dpkg said, where it failed.
	Log []string `json:"log,omitempty"`
}
