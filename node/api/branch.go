package api

import "time"

// BranchRequest copies a namespace as it runs now: the same images by digest and configuration, its volumes cloned
// where they live.
type BranchRequest struct {
	// From is the namespace that is branched, Namespace the new one.
	From      string `json:"from"`
	Namespace string `json:"namespace"`
	// Hosts makes the branch's hostnames: "{branch}" stands for its namespace and "{host}" for the original's
	// hostname; "" means DefaultBranchHosts. HostNames name single ones, original → branch's, and come first.
	Hosts     string            `json:"hosts,omitempty"`
	HostNames map[string]string `json:"hostNames,omitempty"`
	// Secrets is BranchSecretsCopy or "": then each secret that the services name has to be in SecretValues.
	Secrets      string            `json:"secrets,omitempty"`
	SecretValues map[string][]byte `json:"secretValues,omitempty"`
	// Unmasked leaves out the jobs that run in branches before anything but what they depend on.
	Unmasked bool `json:"unmasked,omitempty"`
	// Expires is after how long a branch prune takes it away; 0 is never.
	Expires Duration `json:"expires,omitempty"`
}

// BranchSecretsCopy gives the branch the original's secrets.
const BranchSecretsCopy = "copy"

// DefaultBranchHosts is the template of a branch's hostnames where nobody gives one.
const DefaultBranchHosts = "{branch}.{host}"

// BranchFact is the lineage of a namespace that began as a copy of another. It is a fact of its own, written with the
// branch's first commit and gone with branch rm.
type BranchFact struct {
	Namespace string `json:"namespace"`
	From      string `json:"from"`
	// Commit is the original's that was copied.
	Commit    int       `json:"commit"`
	Operation string    `json:"operation"`
	Created   time.Time `json:"created"`
	// Expires is from when on branch prune takes it away; zero is never.
	Expires time.Time `json:"expires,omitzero"`
	// Hosts are the branch's hostnames and what they are in the original.
	Hosts map[string]string `json:"hosts,omitempty"`
	// Volumes are what its data sets began as, by name.
	Volumes map[string]VolumeOrigin `json:"volumes,omitempty"`
}

// BranchResult is the value of a branch's outcome.
type BranchResult struct {
	BranchFact
	// Ready is how long it took from the first snapshot to the commit, Storage the part of it in which the volumes were
	// quiesced, snapshot and cloned.
	Ready   Duration `json:"ready"`
	Storage Duration `json:"storage"`
}

// PromoteRequest makes a namespace run what a branch of it runs: the very digests and configuration.
type PromoteRequest struct {
	Branch string `json:"branch"`
	// Namespace is the target; "" is what the branch began as.
	Namespace string `json:"namespace,omitempty"`
	// WithData also swaps the branch's data in: a clone of each volume as it is now. What was there is kept.
	WithData bool `json:"withData,omitempty"`
	// Secrets is BranchSecretsCopy to take those of the branch that the target does not have; "" refuses where there
	// are such. What the target has stays.
	Secrets string `json:"secrets,omitempty"`
}
