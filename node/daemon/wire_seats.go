package daemon

import (
	"context"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/coordination"
	"github.com/ployz/ployz/node/deploy/agebox"
	"github.com/ployz/ployz/node/machine"
	"github.com/ployz/ployz/node/operation"
	"github.com/ployz/ployz/node/store/natsstore"
	"github.com/ployz/ployz/units"
)

// Commands about the store's core.
const (
	verbSeat   = "store.seat"
	verbVoters = "store.voters"
	verbEvict  = "store.evict"
	verbUnseat = "store.unseat"
	verbSecret = "store.secret"
)

// seatBody starts a core anew, beside the other voters. The secret that they share travels sealed.
type seatBody struct {
	Voters []netip.Addr `json:"voters"`
	Secret []byte       `json:"secret"`
}

type seatAnswer struct {
	// Server is the core's name, which no core had before.
	Server string `json:"server"`
}

type secretBody struct {
	Recipient string `json:"recipient"`
}

type secretAnswer struct {
	Sealed []byte `json:"sealed"`
}

type votersBody struct {
	Voters []netip.Addr `json:"voters"`
}

// evictBody names a voter's peer, of which the core is to let go.
type evictBody struct {
	Peer string `json:"peer"`
}

// seats changes who votes: machine.Seats.
type seats struct{ daemon *Daemon }

func (s seats) store() *natsstore.Store { return s.daemon.store.Load() }

// Check implements machine.Seats.
func (s seats) Check(ctx context.Context, gone machine.Member, lost bool) ([]*api.Error, error) {
	t, err := s.store().Settled(ctx)
	if err != nil {
		return nil, err
	}
	members, err := s.daemon.peering.Load().members(ctx)
	if err != nil {
		return nil, err
	}
	if v, votes := voterOf(t, gone.ID); votes {
		return plain(natsstore.CheckRemoval(t, v.Peer), members), nil
	}
	if !t.HasQuorum() {
		return []*api.Error{api.Errorf(api.CodeStoreNoQuorum, "only a majority of the voters can change who votes: %s", strings.Join(named(t.Statement(), members), " ")).
			About("store").WithHint("ployzctl store status")}, nil
	}
	return nil, nil
}

// Voting implements machine.Seats.
func (s seats) Voting(ctx context.Context, members []machine.Member) ([]machine.Member, error) {
	t, err := s.store().Topology(ctx)
	return slices.DeleteFunc(slices.Clone(members), func(m machine.Member) bool {
		_, votes := voterOf(t, m.ID)
		return !votes
	}), err
}

// plain puts machines' names where reasons have their servers'.
func plain(reasons []*api.Error, members []machine.Member) []*api.Error {
	for _, e := range reasons {
		e.Message = named([]string{e.Message}, members)[0]
		e.Subject = machineOf(members, e.Subject)
	}
	return reasons
}

func overlays(members []machine.Member) []netip.Addr {
	list := make([]netip.Addr, len(members))
	for i, m := range members {
		list[i] = m.Overlay
	}
	return list
}

// voterOf finds a machine's core: its server's name begins with the machine's id.
func voterOf(t natsstore.Topology, id string) (natsstore.Voter, bool) {
	at := slices.IndexFunc(t.Voters, func(v natsstore.Voter) bool { return id != "" && strings.HasPrefix(v.Name, id+"-") })
	if at < 0 {
		return natsstore.Voter{}, false
	}
	return t.Voters[at], true
}

// Add implements machine.Seats. A core that the group has already is only waited for; another is begun anew,
// since a removed core's name and folder must not come back.
func (s seats) Add(ctx context.Context, act *operation.Act, m machine.Member, beside []machine.Member, copies int) error {
	t, err := s.store().Settled(ctx)
	if err != nil {
		return err
	}
	server := ""
	if v, votes := voterOf(t, m.ID); votes && v.Answers {
		server = v.Name
	} else if server, err = s.begin(ctx, act, m, beside); err != nil {
		return err
	}
	// From here on the new one is asked too, before the fact says that it votes.
	if err := s.daemon.useCores(machine.Identity{Voters: overlays(append(slices.Clone(beside), m))}); err != nil {
		return err
	}
	if err := s.store().AwaitVoter(ctx, server); err != nil {
		return err
	}
	return s.store().Scale(ctx, copies)
}

func (s seats) begin(ctx context.Context, act *operation.Act, m machine.Member, beside []machine.Member) (string, error) {
	voters := overlays(append(slices.Clone(beside), m))
	secret, err := s.sealedSecret(ctx, m, beside)
	if err != nil {
		return "", err
	}
	// Its edge is configured anew whenever a member or voter comes, so it may be away for a moment.
	answer, err := insist[seatAnswer](ctx, s.daemon, m.ID, commandOf(act, verbSeat), seatBody{voters, secret})
	if err != nil {
		return "", err
	}
	for _, b := range beside {
		if err := s.tell(ctx, act, b, votersBody{voters}); err != nil {
			return "", err
		}
	}
	return answer.Server, nil
}

// tellWithin is how long a voter is asked to open its routes to a new one.
const tellWithin = 15 * time.Second

// tell has a voter open its routes to all, which drops the answer now and then: its core takes another
// configuration over. One that does not answer at all may be the one that is to go; the new core opens the route
// to it from its own side.
func (s seats) tell(ctx context.Context, act *operation.Act, b machine.Member, body votersBody) error {
	bounded, cancel := context.WithTimeout(ctx, tellWithin)
	defer cancel()
	_, err := insist[struct{}](bounded, s.daemon, b.ID, commandOf(act, verbVoters), body)
	if code := api.CodeOf(err); code == api.CodeParticipantSilent || code == api.CodeParticipantAbsent {
		act.Note(b.Name + " does not answer; it hears of the new voter from that one's side")
		return nil
	}
	return err
}

// Take implements machine.Seats.
func (s seats) Take(ctx context.Context, act *operation.Act, m machine.Member, rest []machine.Member, lost bool) error {
	t, err := s.store().Settled(ctx)
	if err != nil {
		return err
	}
	if v, votes := voterOf(t, m.ID); votes {
		if err := s.evict(ctx, act, v.Peer, machine.Evicters(s.daemon.selfName(), m, rest, lost)); err != nil {
			return err
		}
	}
	if err := s.daemon.useCores(machine.Identity{Voters: overlays(rest)}); err != nil {
		return err
	}
	if lost {
		return nil
	}
	_, err = insist[struct{}](ctx, s.daemon, m.ID, commandOf(act, verbUnseat), struct{}{})
	return err
}

// evict has the first machine that is there let the core go of a voter, which takes as long as the copies' moving. A
// repetition finds it gone.
func (s seats) evict(ctx context.Context, act *operation.Act, peer string, by []machine.Member) (err error) {
	for _, m := range by {
		_, err = command[struct{}](ctx, s.daemon, m.ID, commandOf(act, verbEvict), evictBody{peer})
		if code := api.CodeOf(err); code != api.CodeParticipantSilent && code != api.CodeParticipantAbsent {
			return err
		}
	}
	return err
}

// insistPause is the pause between two tries of a command whose answer was lost.
const insistPause = 500 * time.Millisecond

// insist repeats a command, until ctx ends, that found nobody, or whose answer was lost with the core that it stopped:
// the machine's edge and ours find another voter within a second or two, and a repeated command gets the first answer.
func insist[A any](ctx context.Context, d *Daemon, id string, cmd coordination.Command, body any) (A, error) {
	for {
		answer, err := command[A](ctx, d, id, cmd, body)
		if code := api.CodeOf(err); code != api.CodeParticipantSilent && code != api.CodeParticipantAbsent {
			return answer, err
		}
		select {
		case <-ctx.Done():
			return answer, err
		case <-time.After(insistPause):
		}
	}
}

// seat starts a new core on this machine, under a name that none had: the time it was begun.
func (d *Daemon) seat(ctx context.Context, b seatBody) (seatAnswer, error) {
	f := d.following.Load()
	f.mu.Lock()
	defer f.mu.Unlock()
	self, err := machine.LoadIdentity(d.State)
	if err != nil {
		return seatAnswer{}, err
	}
	if err := d.unseat(ctx); err != nil { // whatever core was here before
		return seatAnswer{}, err
	}
	secret, err := agebox.Unseal(d.keys(), b.Secret)
	if err != nil {
		return seatAnswer{}, err
	}
	if err := natsstore.InstallRouteSecret(d.host.routeSecret(), secret); err != nil {
		return seatAnswer{}, err
	}
	self.Incarnation = int(time.Now().Unix())
	if err := self.Save(d.State); err != nil {
		return seatAnswer{}, err
	}
	self.Voters = b.Voters
	if err := d.host.renderStore(self); err != nil {
		return seatAnswer{}, err
	}
	files := natsstore.CoreFiles{Program: program("ployz-nats"), Config: d.host.path("nats", "core.conf"), RouteSecret: d.host.routeSecret()}
	if err := natsstore.PrepareJoin(ctx, files); err != nil {
		return seatAnswer{}, err
	}
	core, err := d.natsUnit("core", "--route-secret", d.host.routeSecret())
	if err != nil {
		return seatAnswer{}, err
	}
	return seatAnswer{self.CoreName()}, d.host.start(ctx, core)
}

// useVoters has this machine's core know the routes to all voters, before the fact says so, and this daemon whom to ask: the
// new one may lead a moment later, and this machine may be the one that lets another go.
func (d *Daemon) useVoters(ctx context.Context, voters []netip.Addr) error {
	f := d.following.Load()
	f.mu.Lock()
	defer f.mu.Unlock()
	self, err := machine.LoadIdentity(d.State)
	if err != nil {
		return err
	}
	self.Voters = voters
	if err := d.putStore(ctx, self); err != nil {
		return err
	}
	return d.useCores(self)
}

// unseat stops this machine's core for good. Safe when there is none.
func (d *Daemon) unseat(ctx context.Context) error {
	if err := d.units.Remove(ctx, units.NATSCoreService); err != nil {
		return err
	}
	return natsstore.RetireCore(d.host.path("nats", "core"))
}

// sealedSecret has a voter seal the secret that all of them share to a machine that joins them. It acts as a
// reader: nothing is remembered of the answer. All are asked again while none answers.
func (s seats) sealedSecret(ctx context.Context, m machine.Member, beside []machine.Member) (sealed []byte, err error) {
	return sealed, await(ctx, tellWithin, func() (err error) {
		for _, b := range beside {
			var answer secretAnswer
			answer, err = command[secretAnswer](ctx, s.daemon, b.ID, coordination.Command{Verb: verbSecret}, secretBody{m.Recipient})
			if err == nil {
				sealed = answer.Sealed
				return nil
			}
		}
		return err
	})
}

// sealSecret answers a coordinator that is seating a machine.
func (d *Daemon) sealSecret(b secretBody) (secretAnswer, error) {
	secret, err := natsstore.ReadRouteSecret(d.host.routeSecret())
	if err != nil {
		return secretAnswer{}, api.Errorf(api.CodeStoreUnavailable, "the voters' secret: %w", err).About(d.selfName())
	}
	box, err := agebox.Open(d.keys())
	if err != nil {
		return secretAnswer{}, err
	}
	sealed, err := box.Seal(secret, []string{b.Recipient})
	return secretAnswer{sealed}, err
}
