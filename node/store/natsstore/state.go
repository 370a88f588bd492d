package natsstore

import (
	"context"
	"fmt"
	"time"
)

// streamState is the part of STREAM.INFO that is looked at here.
type streamState struct {
	Config  map[string]any `json:"config"`
	Created time.Time      `json:"created"`
	State   struct {
		Messages uint64 `json:"messages"`
		LastSeq  uint64 `json:"last_seq"`
		Bytes    uint64 `json:"bytes"`
	} `json:"state"`
	Cluster *raftGroup `json:"cluster"`
	Mirror  *struct {
		Name   string        `json:"name"`
		Lag    uint64        `json:"lag"`
		Active time.Duration `json:"active"`
		Error  *apiError     `json:"error"`
	} `json:"mirror"`
}

type raftGroup struct {
	Leader   string `json:"leader"`
	Replicas []struct {
		Name    string        `json:"name"`
		Offline bool          `json:"offline"`
		Active  time.Duration `json:"active"`
	} `json:"replicas"`
}

// followerSilence is when a follower counts as gone: the leader hears from each every second.
const followerSilence = 5 * time.Second

// quorum says whether the leader can commit. A stream that is not clustered has no followers to lose.
func (c *raftGroup) quorum() error {
	if c == nil {
		return nil
	}
	if c.Leader == "" {
		return fmt.Errorf("there is no leader")
	}
	members, present := 1+len(c.Replicas), 1
	for _, r := range c.Replicas {
		if !r.Offline && r.Active < followerSilence {
			present++
		}
	}
	if present < members/2+1 {
		return fmt.Errorf("only %d of %d voters are there", present, members)
	}
	return nil
}

// stateWithin is short: an answer takes a millisecond, and without a leader there is none.
const stateWithin = time.Second

func (s *Store) streamState(ctx context.Context, l *link, stream string) (streamState, error) {
	var info streamState
	ctx, cancel := context.WithTimeout(ctx, stateWithin)
	defer cancel()
	err := l.call(ctx, "$JS.API.STREAM.INFO."+stream, nil, &info)
	return info, err
}
