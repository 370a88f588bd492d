package natsconf

import (
	"encoding/json"
	"time"
)

// MirrorQuestion is where a reader asks an edge's process for the MirrorState of a stream.
func MirrorQuestion(stream string) string { return MirrorAPI + ".MIRROR." + stream }

// MirrorState is all that freshness is judged by, in one answer from memory: readers ask every few
// seconds for as long as the machine runs, and at rest that is most of what the store does.
type MirrorState struct {
	Created time.Time `json:"created"`
	Last    uint64    `json:"last"` // sequence

	Mirror bool          `json:"mirror"` // else it is a stream of its own
	Lag    uint64        `json:"lag"`    // messages that the origin has beyond Last
	Active time.Duration `json:"active"` // since the origin's last sign; not positive before the first

	// Leader is the part of STREAM.INFO about the voters that the core's leader gave last, none before
	// the first answer; Heard is how old it is. The mirror cannot tell: a core that lost its followers goes
	// on giving signs of life to it.
	Leader json.RawMessage `json:"leader,omitempty"`
	Heard  time.Duration   `json:"heard"`
}
