package dns

import (
	"errors"
	"fmt"
	"time"

	"github.com/ployz/ployz/datapath/state"
)

// applied is what a server knows of the zone it serves, next to the zone.
type applied struct {
	rejected       []Rejection
	at             time.Time
	uncertain      string
	uncertainSince time.Time
}

// Apply serves a zone from now on, in one step, and writes it to LastGood. Of parts that are
// bad the last good view is served instead; the error is then, or wraps, a *RejectedError.
// Other errors are failures to write LastGood, with the zone served all the same.
func (s *Server) Apply(z Zone) error { return s.apply(z, "", true) }

// Restore serves the zone in LastGood, marked uncertain. Errors: fs.ErrNotExist, unreadable
// content, or as Apply.
func (s *Server) Restore() error {
	var z Zone
	if err := state.Load(s.LastGood, &z); err != nil {
		return fmt.Errorf("dns: last good zone: %w", err)
	}
	return s.apply(z, "last good view from disk, not confirmed since start", false)
}

// MarkUncertain says that the zone may be out of date, and why, until the next Apply.
func (s *Server) MarkUncertain(why string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state.mark(why)
}

func (a *applied) mark(why string) {
	if a.uncertain == "" || why == "" {
		a.uncertainSince = time.Now()
	}
	a.uncertain = why
}

func (s *Server) apply(z Zone, uncertain string, save bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	merged, parts := merge(s.view.Load().zone, z.clone())
	s.view.Store(compile(merged))
	s.state.at = time.Now()
	s.state.mark(uncertain)
	s.state.reject(parts)
	var errs []error
	if len(parts) > 0 {
		errs = append(errs, &RejectedError{parts})
	}
	if save && s.LastGood != "" {
		if err := state.Save(s.LastGood, merged); err != nil {
			errs = append(errs, fmt.Errorf("dns: last good zone: %w", err))
		}
	}
	return errors.Join(errs...)
}

// reject lists parts, keeping since when those are bad that were so before.
func (a *applied) reject(parts []*PartError) {
	old := a.rejected
	a.rejected = nil
	for _, p := range parts {
		r := Rejection{p.Part, p.Sequence, p.Error(), time.Now()}
		for _, o := range old {
			if o.Part == r.Part && o.Error == r.Error {
				r.Since = o.Since
			}
		}
		a.rejected = append(a.rejected, r)
	}
}
