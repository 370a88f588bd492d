package deploy

import (
	"context"
	"slices"
	"time"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/operation"
	"github.com/ployz/ployz/node/storage"
)

// SendVolume brings a copy of a data set, as it is now, to another machine's pool, where nothing mounts it. What is there
// of it already is brought up to date: only what changed is sent.
//
// The copy's last snapshot, which both machines keep, is what the next one goes on top of; the fact names it. A try that
// failed leaves the snapshot that it was sending, held by nobody, and the next one sends that first: what has arrived of
// it is not sent again.
type SendVolume struct {
	volumeChange
	request api.VolumeSendRequest
	// here and there are the snapshots that the two machines have now.
	here, there []storage.Snapshot
	from, to    Carrier
	got         []storage.Carried // guarded by mu
	arrived     bool              // guarded by mu; some bytes of a stream have
}

// NewSendVolume prepares it.
func NewSendVolume(kit Kit, request api.VolumeSendRequest) *SendVolume {
	return &SendVolume{volumeChange: volumeChange{change: change{kit: kit, ns: request.Namespace, kind: api.KindVolumeSend}}, request: request}
}

// Inspect implements operation.Operation.
func (s *SendVolume) Inspect(ctx context.Context, before operation.Situation) (err error) {
	if s.request.BytesPerSecond < 0 {
		return api.Errorf(api.CodeBadRequest, "a limit of %d bytes in a second", s.request.BytesPerSecond).About(s.ns)
	}
	if err := s.look(ctx, before); err != nil {
		return err
	}
	if err := s.needAny(s.request.Name); err != nil {
		return err
	}
	if s.refusal() != nil { // which the plan says
		return nil
	}
	if s.here, err = s.snapshotsOf(ctx, s.target); err != nil {
		return err
	}
	all, err := s.snapshotsOn(ctx, s.request.To, []string{s.target.ID})
	if err != nil {
		return err
	}
	s.there = all[s.target.ID]
	if s.from, err = s.kit.Carriers.Carrier(ctx, s.target.Machine); err != nil {
		return err
	}
	s.to, err = s.kit.Carriers.Carrier(ctx, s.request.To)
	return err
}

// refusal is why nothing can be sent, or nil.
func (s *SendVolume) refusal() *api.Error {
	if err := s.needReceiver(s.request.To); err != nil {
		return err
	}
	if err := s.volumeChange.there(s.target); err != nil {
		return err
	}
	to, as := s.candidate(s.request.To), s.as()
	switch is := s.inPool(s.request.To, s.target.ID); {
	case s.target.Machine == s.request.To:
		return api.Errorf(api.CodeVolumeThere, "the volume itself is on %s", s.request.To).About(s.ns + "/" + s.target.Name).
			WithHint("send it to another machine: ployzctl machine ls")
	case is != nil && is.State == storage.StateLive:
		return api.AsError(storage.CheckState(as, is.State, storage.StateKept))
	}
	if from := s.candidate(s.target.Machine).stored.Usage.Backend; from != to.stored.Usage.Backend {
		return api.AsError(storage.StreamForeign(from, to.stored.Usage.Backend))
	}
	return api.AsError(storage.CheckRoom(to.stored.Usage, as, s.expected(), s.isThere()))
}

// needReceiver refuses a machine that can be sent no volume.
func (c *change) needReceiver(name string) *api.Error {
	to := c.candidate(name)
	switch {
	case to == nil:
		return noMember(name)
	case to.silent != nil:
		return api.Errorf(api.CodeMachineSilent, "it is to have the volumes, and does not answer: %w", to.silent).About(name).Again().
			WithHint("is it up and reachable? ployzctl machine show %s", name)
	case to.leaving != "":
		return api.Errorf(api.CodeMachineLeaving, "the operation %s removes it", to.leaving).About(name).WithHint("choose another: ployzctl machine ls")
	case to.stored.None != nil:
		return to.stored.None.About(name)
	}
	return nil
}

func noMember(name string) *api.Error {
	return api.Errorf(api.CodeMachineAbsent, "no member of the cluster has that name").About(name).WithHint("list them: ployzctl machine ls")
}

// isThere reports whether the other machine has a whole copy.
func (s *SendVolume) isThere() bool {
	is := s.inPool(s.request.To, s.target.ID)
	return is != nil && is.State == storage.StateKept
}

// expected is about what will be sent where there is no copy; of what changed only the machines can tell, and do before
// anything moves.
func (s *SendVolume) expected() int64 {
	if s.isThere() {
		return 0
	}
	return s.inPool(s.target.Machine, s.target.ID).UsedBytes
}

// as is the volume as the other machine is to have it.
func (s *SendVolume) as() storage.Spec { return specOf(s.target.VolumeFact) }

// snapshot is the one that this operation takes and the copy ends with.
func (s *SendVolume) snapshot() string { return storage.OperationSnapshot(s.operation, 0) }

// Plan implements operation.Operation.
func (s *SendVolume) Plan() operation.Plan {
	t := s.target
	change := api.Change{Action: "create", Subject: "copy of " + t.Name + " (" + t.ID + ")", Machine: s.request.To, Reason: "as it is now on " + t.Machine}
	if seen := s.inPool(t.Machine, t.ID); seen != nil {
		change.To = storage.SizeText(seen.UsedBytes)
	}
	if s.isThere() {
		change.Action, change.Reason = "update", "with what changed since "+s.since()
	}
	plan := operation.Plan{
		Requirements: []operation.Requirement{operation.Met("it can be sent there", s.refusal())},
		Changes:      []api.Change{change},
		Phases:       []operation.Phase{{Name: "snapshot", Steps: []operation.Step{s.take()}}, {Name: "send", Steps: []operation.Step{s.send()}}},
		Commit:       s.commitFact(t.ID, t.revision, []string{"send", t.ID, s.request.To}, s.fact),
		Cleanup:      s.forget(),
	}
	return s.plan(plan)
}

// since is the last moment that the copy shows.
func (s *SendVolume) since() string {
	if len(s.there) == 0 {
		return "it was made"
	}
	return when(s.there[len(s.there)-1].Created)
}

func (s *SendVolume) take() operation.Step {
	t := s.target
	return operation.Step{
		Name: "snapshot volume " + t.Name, Participant: t.Machine, Clear: "ployzctl operation resolve " + s.operation,
		Do: func(ctx context.Context, act *operation.Act) error {
			_, err := s.from.SnapshotVolumes(ctx, fenced(act), s.snapshot(), t.ID)
			return err
		},
		// Once something has arrived, the snapshot stays for the next try.
		Undo: func(ctx context.Context, act *operation.Act) error {
			s.mu.Lock()
			keep := ""
			if s.arrived {
				keep = s.snapshot()
			}
			s.mu.Unlock()
			return s.from.ForgetSnapshots(ctx, fenced(act), t.ID, keep)
		},
	}
}

func (s *SendVolume) send() operation.Step {
	return operation.Step{
		Name: "send volume " + s.target.Name, Participant: s.request.To, Timeout: fetchTime, Clear: "ployzctl operation resolve " + s.operation,
		Do: func(ctx context.Context, act *operation.Act) error {
			for _, name := range append(s.before(), s.snapshot()) {
				got, err := s.carriage(act, name).Run(ctx, fenced(act), s.tell(act))
				s.mu.Lock()
				s.got = append(s.got, got)
				s.mu.Unlock()
				if err != nil {
					return s.sent(err)
				}
			}
			return nil
		},
	}
}

func (s *SendVolume) tell(act *operation.Act) func(storage.Progress) {
	return func(p storage.Progress) {
		act.Progress("volume "+s.target.Name, p.Bytes, p.TotalBytes)
		s.mu.Lock()
		defer s.mu.Unlock()
		s.arrived = s.arrived || p.Bytes > 0
	}
}

func (s *SendVolume) carriage(act *operation.Act, snapshot string) Carriage {
	return Carriage{
		Again: func(err error, pause time.Duration) { noteAgain(act, s.target.Name, err, pause) },
		From:  s.from, To: s.to, FromID: s.candidate(s.target.Machine).member.ID, ToID: s.candidate(s.request.To).member.ID, As: s.as(),
		Offer: storage.Offer{Volume: s.target.ID, Snapshot: snapshot, BytesPerSecond: s.request.BytesPerSecond},
	}
}

// sent adds what to do about a copy that went another way.
func (s *SendVolume) sent(err error) error {
	if api.CodeOf(err) != api.CodeVolumeBaseMissing {
		return err
	}
	return api.AsError(err).WithHint("destroy that copy, and send it in full: ployzctl volume prune %s --id %s --machine %s", s.ns, s.target.ID, s.request.To)
}

// before is the snapshot that an earlier try left, if something of it may have arrived.
func (s *SendVolume) before() []string {
	if s.inPool(s.request.To, s.target.ID) == nil {
		return nil
	}
	if tried := s.tried(); len(tried) > 0 {
		return tried[len(tried)-1:]
	}
	return nil
}

// tried are the snapshots here, after the copy's last one, that tries took which did not come to their end.
func (s *SendVolume) tried() (names []string) {
	var last time.Time
	if n := len(s.there); n > 0 {
		last = s.there[n-1].Created
	}
	for _, is := range s.here {
		id := operationOf(is.Name)
		ended := !slices.ContainsFunc(s.unended(), func(u operation.Unfinished) bool { return u.Operation == id && u.Kind == s.kind })
		if id == "" || len(is.Clones) > 0 || ended && len(is.Holds) > 0 || s.isBase(is.Name, "") || !is.Created.After(last) {
			continue
		}
		names = append(names, is.Name)
	}
	return names
}

// isBase reports whether the next stream to a copy, but for the one on a machine, goes on top of a snapshot.
func (s *SendVolume) isBase(snapshot, but string) bool {
	return slices.ContainsFunc(s.target.Copies, func(c api.VolumeCopy) bool { return c.Snapshot == snapshot && c.Machine != but })
}

// forget are the steps after the commit: both machines keep the last snapshot, held by nobody, and lose those that
// earlier sends, and tries, ended with.
func (s *SendVolume) forget() (steps []operation.Step) {
	t := s.target
	here := s.tried()
	if c := t.copyOn(s.request.To); c != nil && !s.isBase(c.Snapshot, s.request.To) {
		if is := named(s.here, c.Snapshot); is != nil && operationOf(is.Name) != "" && neededBut(*is, operationOf(is.Name)) == nil {
			here = append(here, c.Snapshot)
		}
	}
	again := "ployzctl volume send " + s.ns + "/" + t.ID + " --to " + s.request.To
	var there []string
	for _, is := range s.there {
		if operationOf(is.Name) != "" && len(is.Clones) == 0 {
			there = append(there, is.Name)
		}
	}
	for _, side := range []struct {
		machine string
		carrier Carrier
		old     []string
	}{{t.Machine, s.from, here}, {s.request.To, s.to, append(there, s.before()...)}} {
		steps = append(steps, operation.Step{
			Name: "release the snapshot", Participant: side.machine, Clear: again,
			Do: func(ctx context.Context, act *operation.Act) error {
				return side.carrier.ForgetSnapshots(ctx, fenced(act), t.ID, s.snapshot())
			},
		})
		if len(side.old) > 0 {
			step := s.act(side.machine, Action{Verb: "prune-snapshots", Volume: t.ID, Snapshots: side.old}, "forget earlier snapshots")
			step.Clear = again
			steps = append(steps, step)
		}
	}
	return steps
}

// fact is the data set's with its copy.
func (s *SendVolume) fact() api.VolumeFact {
	fact := s.target.VolumeFact
	fact.Copies = withCopy(fact.Copies, s.copy(), func(c api.VolumeCopy) bool { return s.candidate(c.Machine) == nil })
	return fact
}

func (s *SendVolume) copy() api.VolumeCopy {
	move := s.move()
	return api.VolumeCopy{
		Machine: s.request.To, Snapshot: move.Snapshot, GUID: move.GUID, Reason: api.CopySent, Since: s.kit.Now().UTC(), Operation: s.operation,
	}
}

// move is the evidence of what was sent.
func (s *SendVolume) move() api.VolumeMove {
	s.mu.Lock()
	defer s.mu.Unlock()
	rounds := make([][]storage.Carried, len(s.got))
	for i, got := range s.got {
		rounds[i] = []storage.Carried{got}
	}
	return evidence(s.target.Machine, s.request.To, rounds, 0)
}

// Result implements operation.Resulter.
func (s *SendVolume) Result() any {
	return api.VolumeSendResult{ID: s.target.ID, Name: s.target.Name, Copy: s.copy(), Move: s.move()}
}
