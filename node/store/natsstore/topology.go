package natsstore

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/ployz/ployz/node/store/natsstore/natsconf"
)

// Topology is what the cores say of themselves at one moment. It is an observation: looked up when
// something is decided or shown, never stored.
type Topology struct {
	// Leader is the voter that leads the group; "" without a quorum, and where it does not answer us,
	// since nobody else knows who follows it.
	Leader string `json:"leader,omitempty"`
	// Quorum is how many voters must be there for anything to be written.
	Quorum int `json:"quorum"`
	// Rescued says that a voter runs with its quorum lowered by hand (Rescue).
	Rescued bool     `json:"rescued,omitempty"`
	Voters  []Voter  `json:"voters"`
	Streams []Copies `json:"streams"`
	// Silent are the client addresses, of those asked, that did not answer.
	Silent []string `json:"silent,omitempty"`
}

// Voter is one member of the group, or one holder of a stream's copy. Name is "" where nobody who
// answers knows it: a survivor that was restarted does not remember the names of the dead. Peer, the
// name's hash, is always known.
type Voter struct {
	Name    string `json:"name,omitempty"`
	Peer    string `json:"peer"`
	Leads   bool   `json:"leads,omitempty"`
	Online  bool   `json:"online"`
	Current bool   `json:"current"`
	// Lag counts the operations that it is behind.
	Lag uint64 `json:"lag,omitempty"`
	// Answers says that it answered us; the rest is the leader's word.
	Answers bool `json:"answers"`
	// NoRoom says that it did answer, that its JetStream is off: a core out of room on its disk. Else it counts as not there.
	NoRoom bool `json:"noRoom,omitempty"`
}

// Copies is where one stream lies.
type Copies struct {
	Stream string `json:"stream"`
	// Want is how many copies the stream is set to have.
	Want     int     `json:"want"`
	Leader   string  `json:"leader,omitempty"`
	Last     uint64  `json:"last"`
	Replicas []Voter `json:"replicas"`
	// Changing says that copies are being made or moved.
	Changing bool `json:"changing,omitempty"`
}

// PeerID is the name under which the group knows a voter: a hash of its server name.
func PeerID(serverName string) string {
	const digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
	sum := sha256.Sum256([]byte(serverName))
	out := make([]byte, 8)
	for i := range out {
		out[i] = digits[int(sum[i])%len(digits)]
	}
	return string(out)
}

// coreReport is the part of a core's JSZ that tells of the group.
type coreReport struct {
	Meta     *metaReport `json:"meta_cluster"`
	Disabled bool        `json:"disabled"`
	Accounts []struct {
		Streams []struct {
			Name   string `json:"name"`
			Config struct {
				Replicas int `json:"num_replicas"`
			} `json:"config"`
			State struct {
				LastSeq uint64 `json:"last_seq"`
			} `json:"state"`
			Cluster groupReport `json:"cluster"`
		} `json:"stream_detail"`
	} `json:"account_details"`
}

type metaReport struct {
	groupReport
	Size         int  `json:"cluster_size"`
	QuorumNeeded int  `json:"quorum_needed"`
	Rescue       bool `json:"rescue"`
}

type groupReport struct {
	Leader   string          `json:"leader"`
	Replicas []peerReport    `json:"replicas"`
	Desired  json.RawMessage `json:"desired"`
}

type peerReport struct {
	Name    string        `json:"name"`
	Peer    string        `json:"peer"`
	Current bool          `json:"current"`
	Offline bool          `json:"offline"`
	Active  time.Duration `json:"active"`
	Lag     uint64        `json:"lag"`
	Pending bool          `json:"pending"`
}

// Topology asks every core of the configuration by itself, also without a quorum. It needs
// SystemSeed. Where every core that answers is out of room, there is nobody to tell of the others: Voters are then those
// alone, and Quorum is 0. Errors: store.unavailable (no core answers at all).
func (s *Store) Topology(ctx context.Context) (Topology, error) {
	body := map[string]any{"account": natsconf.AccountStore, "accounts": true, "streams": true, "config": true}
	visits := each[coreReport](ctx, s, "JSZ", body)
	t, answered := assemble(visits)
	if !answered {
		err := errNotConfigured
		if len(visits) > 0 {
			err = visits[0].err
		}
		return t, unavailable("every core", err)
	}
	return t, nil
}

// assemble makes one picture of several reports: the leader's where it answers, else what there is.
func assemble(visits []visit[coreReport]) (Topology, bool) {
	var t Topology
	names := map[string]string{} // of those who answer, by peer
	var full []Voter
	best := -1
	for i, v := range visits {
		if v.err == nil && v.answer.Disabled {
			full = append(full, Voter{Name: v.server.Name, Peer: PeerID(v.server.Name), NoRoom: true})
			continue
		}
		if v.err != nil || v.answer.Meta == nil {
			t.Silent = append(t.Silent, v.url)
			continue
		}
		names[PeerID(v.server.Name)] = v.server.Name
		if best < 0 || weight(v.server.Name, v.answer.Meta.Leader) > weight(visits[best].server.Name, visits[best].answer.Meta.Leader) {
			best = i
		}
		t.Rescued = t.Rescued || v.answer.Meta.Rescue
	}
	if best < 0 {
		t.Voters = full
		return t, len(full) > 0
	}
	meta := visits[best].answer.Meta
	t.Leader, t.Quorum = meta.Leader, meta.Size/2+1
	if meta.Rescue {
		t.Quorum = meta.QuorumNeeded
	}
	t.Voters = withFull(members(meta.groupReport, visits[best].server.Name, names), full)
	t.Streams = copies(visits, names)
	if names[PeerID(t.Leader)] == "" || online(t.Voters) < t.Quorum {
		t.Leader = "" // followers believe in a dead leader for up to six seconds, and it in dead followers for ten
	}
	return t, true
}

// withFull puts what those who are out of room say of themselves in the place of what the leader says.
func withFull(voters, full []Voter) []Voter {
	for _, f := range full {
		if i := slices.IndexFunc(voters, func(v Voter) bool { return v.Peer == f.Peer }); i >= 0 {
			voters[i] = f
		}
	}
	return voters
}

// weight ranks a report: the leader's own, then one that knows a leader, then any.
func weight(server, leader string) int {
	switch leader {
	case server:
		return 2
	case "":
		return 0
	}
	return 1
}

// members lists a group by one member's report, which leaves the member itself out if it leads.
func members(g groupReport, reporter string, names map[string]string) []Voter {
	var out []Voter
	for _, p := range g.Replicas {
		v := Voter{Name: p.Name, Peer: p.Peer, Leads: p.Name != "" && p.Name == g.Leader, Current: p.Current, Lag: p.Lag}
		if PeerID(v.Name) != v.Peer {
			v.Name = names[v.Peer] // the server puts a sentence where it knows no name
		}
		v.Answers = names[v.Peer] != ""
		if v.Online = v.Answers; g.Leader == reporter {
			v.Online = !p.Offline && p.heard(v.Answers)
		} else {
			v.Current = v.Leads && v.Answers // only the leader knows who follows it
		}
		out = append(out, v)
	}
	if self := PeerID(reporter); !slices.ContainsFunc(out, func(v Voter) bool { return v.Peer == self }) {
		leads := g.Leader == reporter
		out = append(out, Voter{Name: reporter, Peer: self, Leads: leads, Online: true, Current: leads, Answers: true})
	}
	slices.SortFunc(out, func(a, b Voter) int { return cmp.Or(strings.Compare(a.Name, b.Name), strings.Compare(a.Peer, b.Peer)) })
	return out
}

func copies(visits []visit[coreReport], names map[string]string) []Copies {
	best := map[string]Copies{}
	ranks := map[string]int{}
	for _, v := range visits {
		for _, a := range v.answer.Accounts {
			for _, st := range a.Streams {
				rank := weight(v.server.Name, st.Cluster.Leader)
				if before, seen := ranks[st.Name]; seen && before >= rank {
					continue
				}
				c := Copies{Stream: st.Name, Want: st.Config.Replicas, Leader: st.Cluster.Leader, Last: st.State.LastSeq}
				c.Replicas = members(st.Cluster, v.server.Name, names)
				c.Changing = st.Cluster.changing() || len(c.Replicas) != c.Want
				ranks[st.Name], best[st.Name] = rank, c
			}
		}
	}
	var out []Copies
	for _, c := range best {
		if names[PeerID(c.Leader)] == "" || online(c.Replicas) < len(c.Replicas)/2+1 {
			c.Leader = ""
		}
		out = append(out, c)
	}
	slices.SortFunc(out, func(a, b Copies) int { return strings.Compare(a.Stream, b.Stream) })
	return out
}

// heard says that a leader hears from its follower. A new leader that never did says 0.
func (p peerReport) heard(answers bool) bool {
	return p.Active < followerSilence && (p.Active > 0 || p.Current || answers)
}

func (g groupReport) changing() bool {
	return len(g.Desired) > 0 && string(g.Desired) != "null" ||
		slices.ContainsFunc(g.Replicas, func(p peerReport) bool { return p.Pending })
}

func online(voters []Voter) int {
	n := 0
	for _, v := range voters {
		if v.Online {
			n++
		}
	}
	return n
}

// HasQuorum says that the group and every stream have a leader that can commit.
func (t Topology) HasQuorum() bool {
	if t.Leader == "" {
		return false
	}
	return !slices.ContainsFunc(t.Streams, func(c Copies) bool { return c.Leader == "" })
}

// Voter finds a voter by its server name, or by its peer id.
func (t Topology) Voter(nameOrPeer string) (Voter, bool) {
	i := slices.IndexFunc(t.Voters, func(v Voter) bool {
		return v.Name == nameOrPeer || v.Peer == nameOrPeer || v.Peer == PeerID(nameOrPeer)
	})
	if i < 0 {
		return Voter{}, false
	}
	return t.Voters[i], true
}

// Called is how a voter is spoken of.
func (v Voter) Called() string {
	if v.Name == "" {
		return fmt.Sprintf("a voter whose name nobody here knows (peer %s)", v.Peer)
	}
	return v.Name
}
