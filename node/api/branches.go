package api

// BranchEntry is a branch with what is so of it now.
type BranchEntry struct {
	BranchFact
	// Present is the number of the branch's own last commit.
	Present int `json:"present"`
	// Expired says that a branch prune takes it away.
	Expired bool `json:"expired,omitempty"`
	// Machines are those that run it or have a volume of it, by name in order.
	Machines []string `json:"machines"`
	// OwnBytes is what its volumes share with nothing else, as far as the pools answer.
	OwnBytes int64 `json:"ownBytes"`
}

// BranchList is every branch of the cluster, by namespace in order.
type BranchList struct {
	Branches []BranchEntry `json:"branches"`
	// Uncertain says whose part is missing, or "".
	Uncertain string `json:"uncertain,omitempty"`
}

// BranchPruned is what became of one branch in a branch prune.
type BranchPruned struct {
	Branch string `json:"branch"`
	// Removed is the outcome of its branch.rm, Volumes that of the volume.prune of its namespace; nil where it did not
	// come to that.
	Removed Outcome  `json:"removed"`
	Volumes *Outcome `json:"volumes,omitempty"`
}
