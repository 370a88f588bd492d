package api

import (
	"net/netip"
	"time"
)

// Commit is one immutable deploy commit: the whole truth of a namespace at that moment. Commits of
// a namespace are numbered from 1.
type Commit struct {
	Number    int       `json:"number"`
	Parent    int       `json:"parent,omitempty"`
	Namespace string    `json:"namespace"`
	Operation string    `json:"operation"`
	Kind      string    `json:"kind"`
	Caller    string    `json:"caller,omitempty"`
	Time      time.Time `json:"time"`
	// Of is the commit whose content a rollback took, or, where Branch is set, a promotion: then it is that namespace's.
	Of     int    `json:"of,omitempty"`
	Branch string `json:"branch,omitempty"`
	// Spec is what was asked for, with images by digest and without secret values.
	Spec    Spec                    `json:"spec"`
	Secrets map[string]SealedSecret `json:"secrets,omitempty"`
	// Slots is where it runs, by slot name.
	Slots map[string]Slot `json:"slots"`
	// Restarts counts the restarts asked for, by service; it is part of the revision.
	Restarts map[string]int `json:"restarts,omitempty"`
	// Volumes are the data sets that were live with it, by name.
	Volumes map[string]CommitVolume `json:"volumes,omitempty"`
}

// SealedSecret is a secret as the store keeps it.
type SealedSecret struct {
	// Sealed is an age message to the machines of the cluster.
	Sealed []byte `json:"sealed"`
	// Fingerprint tells two values apart without revealing either.
	Fingerprint string `json:"fingerprint"`
	// For are the ids of the machines that it is sealed to, in order.
	For []string `json:"for,omitempty"`
}

// Slot is one place of a service and the instance that fills it.
type Slot struct {
	Name     string     `json:"name"`
	Service  string     `json:"service"`
	Machine  string     `json:"machine"`
	Instance string     `json:"instance"`
	Revision string     `json:"revision"`
	V4       netip.Addr `json:"v4"`
	V6       netip.Addr `json:"v6"`
}

// CommitSummary is one line of `history`.
type CommitSummary struct {
	Number    int               `json:"number"`
	Of        int               `json:"of,omitempty"`
	Branch    string            `json:"branch,omitempty"`
	Kind      string            `json:"kind"`
	Operation string            `json:"operation"`
	Caller    string            `json:"caller,omitempty"`
	Time      time.Time         `json:"time"`
	Current   bool              `json:"current,omitempty"`
	Images    map[string]string `json:"images"`
	// Volumes are the data sets that were live with it, by name, with the snapshot that was taken just before it: the
	// data as the commit before it left it, which a rollback to that one with data gives back; "" where none was taken.
	Volumes map[string]string `json:"volumes,omitempty"`
}

// Difference is one line of `diff`: a key of the spec and its two values.
type Difference struct {
	Path string `json:"path"`
	From string `json:"from"`
	To   string `json:"to"`
}
