package machine

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/operation"
	"github.com/ployz/ployz/node/store"
)

// Set changes what the operator says of a machine: labels of placement, its role, where and by whom it may be reached.
// Nothing moves by it: the next deploy that somebody asks for heeds it.
type Set struct {
	kit     Kit
	request api.MachineSetRequest

	was, is Member
	members []Member
	seen    store.Revision
}

// NewSet changes a machine's facts.
func NewSet(kit Kit, request api.MachineSetRequest) *Set { return &Set{kit: kit, request: request} }

// Kind implements operation.Operation.
func (s *Set) Kind() string { return api.KindMachineSet }

// Scope implements operation.Operation.
func (s *Set) Scope() string { return "machine/" + s.request.Machine }

var labelShape = strings.NewReplacer("-", "", "_", "", ".", "", "/", "")

// Inspect implements operation.Operation.
func (s *Set) Inspect(ctx context.Context, _ operation.Situation) error {
	if err := s.check(); err != nil {
		return err
	}
	var err error
	if s.members, err = Members(ctx, s.kit.Facts); err != nil {
		return err
	}
	if s.was, err = Named(s.members, s.request.Machine); err != nil {
		return err
	}
	fact, err := s.kit.Facts.Get(ctx, store.Machine(s.was.ID))
	s.seen = fact.Revision
	s.is = s.changed()
	if s.request.Relay != nil && err == nil {
		s.is.Relay, err = chooseRelay(s.members, s.was, *s.request.Relay)
	}
	return err
}

// check refuses values that placement could never match.
func (s *Set) check() error {
	if r := s.request.Role; r != nil && !slices.Contains([]Role{"", HomeData, Compute, Draining, Disabled}, Role(*r)) {
		return api.Errorf(api.CodeBadRequest, "%q is no role", *r).About("--role").
			WithHint("one of home_data, compute, draining, disabled, or \"\" for none")
	}
	words := map[string]string{}
	for flag, v := range map[string]*string{"--region": s.request.Region, "--zone": s.request.Zone} {
		if v != nil {
			words[flag] = *v
		}
	}
	for key, value := range s.request.Labels {
		if key == "" {
			return api.Errorf(api.CodeBadRequest, "a label has a name").About("--label")
		}
		words["--label "+key] = labelShape.Replace(key + value)
	}
	for where, word := range words {
		if len(word) > 63 || strings.ContainsFunc(labelShape.Replace(word), notWordRune) {
			return api.Errorf(api.CodeBadRequest, "%q: letters, digits, - _ . /, at most 63", word).About(where)
		}
	}
	return nil
}

func notWordRune(r rune) bool {
	return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9')
}

func (s *Set) changed() Member {
	m := s.was
	for to, from := range map[*string]*string{&m.Region: s.request.Region, &m.Zone: s.request.Zone} {
		if from != nil {
			*to = *from
		}
	}
	if s.request.Role != nil {
		m.Role = Role(*s.request.Role)
	}
	if len(s.request.Endpoints) > 0 {
		m.Endpoints = s.request.Endpoints
	}
	m.Labels = maps.Clone(m.Labels)
	for key, value := range s.request.Labels {
		if value == "" {
			delete(m.Labels, key)
			continue
		}
		if m.Labels == nil {
			m.Labels = map[string]string{}
		}
		m.Labels[key] = value
	}
	return m
}

// Plan implements operation.Operation.
func (s *Set) Plan() operation.Plan {
	plan := operation.Plan{
		Changes: s.changes(),
		Commit: operation.Commit{
			Witness: store.Machine(s.was.ID), Expect: s.seen, Content: s.is,
			Batch: func(op string) ([]store.Put, error) {
				m := s.is
				m.Operation = op
				p, err := put(store.Machine(m.ID), m, s.seen)
				return []store.Put{p}, err
			},
		},
		Resolves: true,
	}
	if !slices.Equal(s.was.Endpoints, s.is.Endpoints) || s.was.Relay != s.is.Relay {
		for _, m := range s.members {
			plan.Cleanup = append(plan.Cleanup, s.kit.follow(m, store.Machine(s.was.ID)))
		}
	}
	return plan
}

func (s *Set) changes() []api.Change {
	var list []api.Change
	add := func(what, from, to string) {
		if from != to {
			list = append(list, api.Change{Action: "update", Subject: "machine " + s.was.Name + " " + what, Machine: s.was.Name, From: from, To: to})
		}
	}
	add("region", s.was.Region, s.is.Region)
	add("zone", s.was.Zone, s.is.Zone)
	add("role", string(s.was.Role), string(s.is.Role))
	add("labels", fmt.Sprint(s.was.Labels), fmt.Sprint(s.is.Labels))
	add("endpoints", fmt.Sprint(s.was.Endpoints), fmt.Sprint(s.is.Endpoints))
	add("relay", NameOf(s.members, s.was.Relay), NameOf(s.members, s.is.Relay))
	return list
}
