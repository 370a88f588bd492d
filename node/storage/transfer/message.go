package transfer

import (
	"time"

	"github.com/ployz/ployz/node/storage"
)

// want is what a receiver has and needs.
type want struct {
	Backend string `json:"backend"`
	// Have are the GUIDs of the volume's snapshots there, oldest first: the newest mostHave of them.
	Have []string `json:"have,omitempty"`
	// Partial is what the receiver's pool needs to go on with a broken stream; "" begins at the last snapshot.
	Partial string `json:"partial,omitempty"`
}

// mostHave bounds a want to a frame.
const mostHave = 4096

// plan is what a sender is about to send.
type plan struct {
	Backend string `json:"backend"`
	// Snapshot is the one that the receiver will have at the end, GUID its.
	Snapshot string `json:"snapshot"`
	GUID     string `json:"guid"`
	// Streams are in the order in which they come; none where the receiver has the snapshot already.
	Streams []stream `json:"streams,omitempty"`
}

// stream is one of a plan's.
type stream struct {
	Snapshot string `json:"snapshot"`
	GUID     string `json:"guid"`
	Base     string `json:"base,omitempty"`
	BaseGUID string `json:"baseGuid,omitempty"`
	// Bytes is the estimate.
	Bytes int64 `json:"bytes"`
	// Resumed says that it goes on with one that broke.
	Resumed bool `json:"resumed,omitempty"`
}

// bytes is the estimate of the whole plan.
func (p plan) bytes() (total int64) {
	for _, s := range p.Streams {
		total += s.Bytes
	}
	return total
}

// end is said when a stream is whole.
type end struct {
	Bytes int64 `json:"bytes"`
}

// receipt is what the receiver's pool says that it has.
type receipt struct {
	GUID string `json:"guid"`
}

// flow is what passed of a stream.
type flow struct {
	bytes       int64
	first, last time.Time // of the bytes
}

// pass counts bytes, the first of which were begun with at a moment.
func (f *flow) pass(bytes int, begun time.Time) {
	if f.bytes == 0 {
		f.first = begun
	}
	f.bytes += int64(bytes)
	f.last = time.Now()
}

// agree adds a stream to the evidence, once both sides have it.
func agree(c *storage.Carried, s stream, f flow, took time.Duration) {
	done := storage.CarriedStream{
		Snapshot: s.Snapshot, GUID: s.GUID, BaseGUID: s.BaseGUID, Bytes: f.bytes, Took: took, Flowing: f.last.Sub(f.first), Resumed: s.Resumed,
	}
	c.Streams = append(c.Streams, done)
	c.Snapshot, c.GUID = s.Snapshot, s.GUID
	c.Bytes += done.Bytes
	c.Took += done.Took
	c.Flowing += done.Flowing
}
