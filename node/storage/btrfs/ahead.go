package btrfs

import (
	"context"
	"io"
	"time"

	"github.com/ployz/ployz/node/storage"
)

// What a stream brings is written out while it still arrives. In a file of very many extents, such as a database, the
// first write to a page of the file system's own tables since a snapshot counts anew everything that the page tells of:
// a few hundred blocks all over a database cost 0.3 s, whatever their bytes. The kernel leaves that to the commit at the
// end, for which a migration's stop would wait; done beside the stream it is over when the stream is.

const (
	// leastPause is between two commits.
	leastPause = 2 * time.Millisecond
	// paused is the part of a stream's time that a pause takes: a long stream is not slowed down by its commits.
	paused = 16
)

// bring makes a stream a sub-volume of the folder.
func (p *Pool) bring(ctx context.Context, folder string, h storage.Header, r io.Reader) error {
	if h.BaseGUID != "" { // what comes in full has its pages of those tables for itself
		defer p.writeAhead()()
	}
	return stream(ctx, r, io.Discard, "receive", "-q", "-e", folder)
}

// writeAhead commits again and again until it is stopped. What fails of it fails again in the commit that counts.
func (p *Pool) writeAhead() (stop func()) {
	stopped, ended, begun := make(chan struct{}), make(chan struct{}), time.Now()
	go func() {
		defer close(ended)
		for {
			select {
			case <-stopped:
				return
			case <-time.After(max(leastPause, time.Since(begun)/paused)):
				_ = p.settle()
			}
		}
	}()
	return func() {
		close(stopped)
		<-ended
	}
}
