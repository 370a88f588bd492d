package natsstore

import (
	"fmt"
	"slices"
	"strings"
)

// Statement says in plain words what may be lost next, and what then. One line per thing to know.
func (t Topology) Statement() []string {
	var out []string
	off := t.absent()
	switch {
	case t.Quorum == 0 && len(off) > 0:
		out = append(out, "Nothing can be written: no voter that answers has room. Reads and all that serves go on.")
	case !t.HasQuorum():
		out = append(out, t.withoutQuorum(off))
	case len(t.Voters) == 1:
		out = append(out, "There is one voter. If its machine is lost for good, the facts live on in the other machines' mirrors, up to "+
			"what those had; with one machine, a backup is the only other copy.")
	default:
		out = append(out, t.spare(off))
	}
	if t.Rescued {
		out = append(out, "A rescue is under way: the quorum is lowered by hand for a few minutes.")
	}
	if full := t.outOfRoom(); len(full) > 0 {
		out = append(out, fmt.Sprintf("Out of room on the disk of the store, and therefore not voting: %s.",
			strings.Join(full, ", ")))
	}
	for _, c := range t.Streams {
		if line := t.short(c); line != "" {
			out = append(out, line)
		}
	}
	return out
}

func (t Topology) withoutQuorum(off []string) string {
	if len(off) == 0 {
		return "There is no leader at the moment, though every voter answers: an election takes up to 9 seconds. Reads go on."
	}
	return fmt.Sprintf("There is no quorum: of %d voters %d must be there, and these are not: %s. Nothing can be written; reads and all that serves "+
		"go on. Bring one back, or give it up: ployzctl machine remove --lost.", len(t.Voters), t.Quorum, strings.Join(off, ", "))
}

// spare says how many more voters may go.
func (t Topology) spare(off []string) string {
	size := len(t.Voters)
	more := size - len(off) - t.Quorum
	now := fmt.Sprintf("There are %d voters, and all are there.", size)
	if len(off) > 0 {
		now = fmt.Sprintf("There are %d voters; not there: %s.", size, strings.Join(off, ", "))
	}
	switch {
	case more == 0 && size == 2:
		return now + " Either may be lost without losing anything that was told as committed; but while one is off nothing can be " +
			"written, until it is back or given up: ployzctl machine remove --lost."
	case more == 0:
		return now + " No further one may go off: writing would stop until one is back. Nothing told as committed would be lost."
	case more == 1:
		return now + " Any one may be lost: nothing told as committed is lost, and writing goes on after a pause of a few seconds."
	}
	return now + fmt.Sprintf(" Any %d may be lost: nothing told as committed is lost, and writing goes on after a pause of a few seconds.", more)
}

// short says what a stream lacks against what its voters could hold.
func (t Topology) short(c Copies) string {
	behind := slices.DeleteFunc(slices.Clone(c.Replicas), func(v Voter) bool { return v.Current || !v.Online })
	switch {
	case c.Want < len(t.Voters):
		return fmt.Sprintf("%s has %d of %d copies: the change of voters is not finished.", c.Stream, c.Want, len(t.Voters))
	case c.Leader != "" && len(behind) > 0:
		return fmt.Sprintf("%s: the copy on %s is %d behind; it does not count yet.", c.Stream, behind[0].Called(), behind[0].Lag)
	case c.Changing:
		return fmt.Sprintf("%s: a copy is being made or moved.", c.Stream)
	}
	return ""
}

// outOfRoom names the voters that answered so.
func (t Topology) outOfRoom() []string {
	var out []string
	for _, v := range t.Voters {
		if v.NoRoom {
			out = append(out, v.Called())
		}
	}
	return out
}

// absent names the voters that are not there.
func (t Topology) absent() []string {
	var out []string
	for _, v := range t.Voters {
		if !v.Online {
			out = append(out, v.Called())
		}
	}
	return out
}
