package runtime

import (
	"net/netip"

	"github.com/ployz/ployz/node/api"
)

// Spec is the whole description of one instance, complete enough that two equal specs make two
// equal bundles and units: its hash is the instance's identity.
type Spec struct {
	// ID is unique in the cluster and names the unit, the folder and the namespace file:
	// letters, digits and dashes, at most 60 bytes.
	ID          string `json:"id"`
	Namespace   string `json:"namespace"`
	NamespaceID uint32 `json:"namespaceID"`
	Service     string `json:"service"`
	// Slot is the place the instance fills, such as "web-0"; jobs have their run's name.
	Slot string `json:"slot"`

	Image     string        `json:"image"`
	Digest    string        `json:"digest"`
	Process   api.Process   `json:"process"`
	Tmpfs     []api.Tmpfs   `json:"tmpfs,omitempty"`
	Mounts    []Mount       `json:"mounts,omitempty"`
	Ports     []api.Port    `json:"ports,omitempty"`
	Resources api.Resources `json:"resources"`
	Restart   api.Restart   `json:"restart"`
	Security  api.Security  `json:"security"`
	// Files hold configs in plain text and secrets sealed to this machine; see FileContent.
	Files []FileContent `json:"files,omitempty"`
	// SecretEnv are variables whose values are sealed; Process.SecretEnv only names the
	// secrets and is not read by backends.
	SecretEnv map[string]SealedValue `json:"secretEnv,omitempty"`
	// Job makes the unit a oneshot whose exit status is the result; it is never restarted.
	Job bool `json:"job,omitempty"`
}

// Mount shows a volume's folder inside the instance. What is written there outlives the instance: Remove leaves it.
type Mount struct {
	// Volume is the volume's id.
	Volume string `json:"volume"`
	// Source is the folder's path on this machine. It is no more than mounted: whoever prepares the instance has seen to
	// it that it is the volume's.
	Source   string `json:"source,omitempty"`
	Target   string `json:"target"`
	ReadOnly bool   `json:"readOnly,omitempty"`
}

// SealedValue is a secret as it may be stored: an age message to this machine's recipient, and
// the fingerprint that stands for it in the identity.
type SealedValue struct {
	Sealed      []byte `json:"sealed"`
	Fingerprint string `json:"fingerprint"`
}

// FileContent is one file placed into the instance.
type FileContent struct {
	Target string `json:"target"`
	UID    int    `json:"uid"`
	GID    int    `json:"gid"`
	Mode   uint32 `json:"mode"`
	// Plain is a config's text; Sealed an age message to this machine's recipient, opened
	// only into memory when the instance starts. With neither the file is empty.
	Plain  []byte `json:"plain,omitempty"`
	Sealed []byte `json:"sealed,omitempty"`
	// Fingerprint stands for a sealed content in the identity, since sealing the same
	// secret twice gives different bytes.
	Fingerprint string `json:"fingerprint,omitempty"`
}

// Addresses are what the machine gave an instance. They stay the same for the instance's life,
// restarts and reboots included.
type Addresses struct {
	V4 netip.Addr `json:"v4"`
	V6 netip.Addr `json:"v6"`
}
