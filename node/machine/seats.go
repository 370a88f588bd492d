package machine

import (
	"cmp"
	"context"
	"slices"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/operation"
)

// DefaultVoters is how many of a number of machines vote, unless an operator asked for another number: with
// two, neither can be lost unnoticed; more than three make every commit wait for more disks.
func DefaultVoters(machines int) int { return min(machines, 3) }

// votersFor is the number of seats after a change: five only where five were asked for, and never four.
func votersFor(machines, now int) int {
	if now >= 5 && machines >= 5 {
		return 5
	}
	return DefaultVoters(machines)
}

// seating is who votes after a change: who does and stays, then others, first from zones without a vote,
// then in the order of their numbers, which is that of the list. A pure function.
func seating(members []Member, now []string, count int) []Member {
	all := byNumber(members)
	var chosen []Member
	for _, m := range all {
		if slices.Contains(now, m.ID) && len(chosen) < count {
			chosen = append(chosen, m)
		}
	}
	for len(chosen) < min(count, len(all)) {
		chosen = append(chosen, nextSeat(all, chosen))
	}
	return byNumber(chosen)
}

func byNumber(members []Member) []Member {
	return slices.SortedFunc(slices.Values(members), func(a, b Member) int { return cmp.Compare(a.Number, b.Number) })
}

// nextSeat is the next machine to vote; there is one.
func nextSeat(all, chosen []Member) Member {
	var free []Member
	for _, m := range all {
		if !containsMember(chosen, m) {
			free = append(free, m)
		}
	}
	for _, m := range free {
		if !slices.ContainsFunc(chosen, func(c Member) bool { return c.Zone == m.Zone }) {
			return m
		}
	}
	return free[0]
}

func containsMember(list []Member, m Member) bool {
	return slices.ContainsFunc(list, func(x Member) bool { return x.ID == m.ID })
}

// voters are who votes by the facts, in the order of their numbers.
func voters(members []Member, c Cluster) []Member {
	var list []Member
	for _, m := range byNumber(members) {
		if slices.Contains(c.Voters, m.ID) {
			list = append(list, m)
		}
	}
	return list
}

// seated is who has a seat before it is who is to have one. After an operation that did not come to its end, seats may
// have changed that the facts do not know of: then the store says who votes. Whom only the facts name may be
// dead and unknown to the store, and is named here too when he is to go.
func (k Kit) seated(ctx context.Context, members []Member, c Cluster, to []Member, before *operation.Unfinished) ([]Member, error) {
	known := voters(members, c)
	if before == nil {
		return known, nil
	}
	list, err := k.Seats.Voting(ctx, members)
	for _, m := range known {
		if !containsMember(list, m) && !containsMember(to, m) {
			list = append(list, m)
		}
	}
	return byNumber(list), err
}

func ids(members []Member) []string {
	list := make([]string, len(members))
	for i, m := range members {
		list[i] = m.ID
	}
	return list
}

// seatTimeout bounds one change of a seat: the new core copies every fact.
const seatTimeout = 2 * api.Duration(60e9)

// reseat are the steps from one set of voters to another, one seat at a time: new ones first, so that there are
// never fewer copies than before. Who takes another's seat gets the other's copies when that one goes: they are
// moved once, and the store never has more copies than before or after.
func (k Kit) reseat(from, to []Member, lost bool) []operation.Step {
	var steps []operation.Step
	have, most := slices.Clone(from), max(len(from), len(to))
	for _, m := range to {
		if !containsMember(have, m) {
			steps = append(steps, k.seat(m, slices.Clone(have), min(len(have)+1, most)))
			have = append(have, m)
		}
	}
	for _, m := range from {
		if !containsMember(to, m) {
			have = slices.DeleteFunc(slices.Clone(have), func(x Member) bool { return x.ID == m.ID })
			steps = append(steps, k.unseat(m, have, lost, min(len(have)+1, most)))
		}
	}
	return steps
}

// Evicters are the machines that may have the core let go of a voter, the best first. One that obeys commands does it,
// and not the coordinator by himself: who slept over his lease has nobody left that obeys him. His own machine, whose
// daemon sleeps as he does, is the last; the voter itself is asked before that, unless it is lost.
func Evicters(coordinator string, m Member, rest []Member, lost bool) []Member {
	var others, own []Member
	for _, r := range rest {
		if r.Name == coordinator {
			own = append(own, r)
		} else {
			others = append(others, r)
		}
	}
	if !lost {
		others = append(others, m)
	}
	return append(others, own...)
}
