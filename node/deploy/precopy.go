package deploy

import (
	"context"
	"errors"
	"time"

	"github.com/ployz/ployz/node/storage"
)

// Precopy carries volumes to another machine while they are written: in full, then what was written meanwhile, in as
// many rounds as bring the stop down. It is the part of a migration before the stop (Run), inside it (Finish), and
// after it or after a failure (Forget). It stops nobody and restores nothing: the copies are kept volumes until whoever
// migrates gives them their names.
//
//	Run     snapshot, carry, twice; ask what was written, plan; snapshot and carry, or return
//	        ── the caller stops who writes ──
//	Finish  snapshot, carry the last delta
//	        ── the caller restores the copies, starts, commits ──
//	Forget  ends holds and snapshots on both machines, but the last that both have
type Precopy struct {
	// From has the volumes and To is to have them; FromID and ToID are their machines' ids.
	From, To     Carrier
	FromID, ToID string
	// Volumes are as they are to be on the other machine. All are of one moment in each round.
	Volumes []storage.Spec
	// BytesPerSecond is the most that is sent before the stop; inside it there is no limit.
	BytesPerSecond int64
	// Fixed is what the stop takes besides the last delta, as far as the caller knows; MaxStop the longest that is
	// allowed, 0 is any.
	Fixed, MaxStop time.Duration
	// Pause is Carriage's.
	Pause time.Duration
	// Settle is called before each round but the first and that inside the stop, and before it is asked what is left: who
	// writes may write out what it has in memory, which then is not left for the stop. nil is nobody.
	Settle func(ctx context.Context)
	// Again is told what broke of a volume's way, see Carriage; nil is nobody.
	Again func(volume string, err error, pause time.Duration)
	// Arrived is called once the first round has brought what is before it over; nil is nobody. Its error ends Run.
	Arrived func(ctx context.Context) error

	// Rounds are those so far, and Carried what each brought, by volume: the evidence.
	Rounds  []storage.Round
	Carried [][]storage.Carried

	last     string    // the newest snapshot that both machines have; "" before the first round
	at       time.Time // when it was taken
	taken    int
	overhead time.Duration // what the last round took besides its bytes

	finishing bool // who writes has stopped, and waits
}

// Telling is told how a volume's bytes pass.
type Telling func(volume string, p storage.Progress)

// Run makes rounds until the plan says to cut over, which it returns, or that it is of no use. Nothing is stopped
// either way. The expected stop counts what a round takes besides its bytes, as measured, and BytesPerSecond, although Finish
// does without: it may be shorter, and not longer. Errors:
// volume.not-converging, and those of Carriage.
func (p *Precopy) Run(ctx context.Context, by Fenced, tell Telling) (storage.RoundPlan, error) {
	if err := p.round(ctx, by, tell); err != nil {
		return storage.RoundPlan{}, err
	}
	if p.Arrived != nil {
		if err := p.Arrived(ctx); err != nil {
			return storage.RoundPlan{}, err
		}
	}
	// What a round takes besides its bytes is more where they are many and have to be made durable. The second, which has
	// few, tells what it will be inside the stop.
	p.settle(ctx)
	if err := p.round(ctx, by, tell); err != nil {
		return storage.RoundPlan{}, err
	}
	for {
		p.settle(ctx)
		plan, err := p.plan(ctx)
		if err != nil || plan.Next == storage.NextCutOver {
			return plan, err
		}
		if plan.Next == storage.NextRefuse {
			return plan, plan.Refusal(p.subject())
		}
		if err := p.round(ctx, by, tell); err != nil {
			return plan, err
		}
	}
}

func (p *Precopy) settle(ctx context.Context) {
	if p.Settle != nil {
		p.Settle(ctx)
	}
}

func (p *Precopy) subject() string {
	if len(p.Volumes) == 0 {
		return ""
	}
	return p.Volumes[0].FullName()
}

// Finish carries what was written since the last round. The caller has stopped who writes. Repeated, it carries what is
// not there yet.
func (p *Precopy) Finish(ctx context.Context, by Fenced, tell Telling) error {
	p.BytesPerSecond, p.finishing = 0, true
	return p.round(ctx, by, tell)
}

// Forget ends what the operation holds on both machines, and forgets its snapshots but for the last one that both have:
// with it the next migration of these volumes, either way, begins with what changed. Errors are those of both
// machines together; what is left costs the space of what changed since, and goes with the volume.
func (p *Precopy) Forget(ctx context.Context, by Fenced) error {
	var errs []error
	for _, v := range p.Volumes {
		errs = append(errs, p.From.ForgetSnapshots(ctx, by, v.ID, p.last), p.To.ForgetSnapshots(ctx, by, v.ID, p.last))
	}
	return errors.Join(errs...)
}

func (p *Precopy) round(ctx context.Context, by Fenced, tell Telling) error {
	begun := time.Now()
	name, err := p.snapshot(ctx, by)
	if err != nil {
		return err
	}
	if err := p.carry(ctx, by, name, time.Now(), tell); err != nil {
		return err
	}
	p.overhead = max(time.Since(begun)-p.Rounds[len(p.Rounds)-1].Took, 0)
	return nil
}

func (p *Precopy) snapshot(ctx context.Context, by Fenced) (name string, err error) {
	name = storage.OperationSnapshot(by.Operation, p.taken)
	p.taken++
	ids := make([]string, len(p.Volumes))
	for i, v := range p.Volumes {
		ids[i] = v.ID
	}
	_, err = p.From.SnapshotVolumes(ctx, by, name, ids...)
	return name, err
}

// plan asks what comes next. It takes no snapshot for it: the first writes after one may be dear, and those here would be
// the last before the stop.
func (p *Precopy) plan(ctx context.Context) (storage.RoundPlan, error) {
	var left int64
	for _, v := range p.Volumes {
		bytes, err := p.From.WrittenVolume(ctx, v.ID, p.last)
		if err != nil {
			return storage.RoundPlan{}, err
		}
		left += bytes
	}
	return storage.PlanRound(storage.Rounds{
		Done: p.Rounds, LeftBytes: left, Since: time.Since(p.at), Overhead: p.overhead,
		Fixed: p.Fixed + p.overhead, MaxStop: p.MaxStop,
	}), nil
}

// carry brings one snapshot of each volume over. The first brings what is before it, too, so that a commit can be
// rolled back to on the other machine.
func (p *Precopy) carry(ctx context.Context, by Fenced, name string, now time.Time, tell Telling) error {
	round, carried := storage.Round{}, []storage.Carried(nil)
	for _, v := range p.Volumes {
		got, err := Carriage{
			From: p.From, To: p.To, FromID: p.FromID, ToID: p.ToID, As: v, Pause: p.Pause, Stays: true,
			Again: func(err error, pause time.Duration) {
				if p.Again != nil {
					p.Again(v.ID, err, pause)
				}
			},
			Offer: storage.Offer{Volume: v.ID, Snapshot: name, Every: p.last == "", BytesPerSecond: p.BytesPerSecond, Unmeasured: p.finishing},
		}.Run(ctx, by, func(progress storage.Progress) {
			if tell != nil {
				tell(v.ID, progress)
			}
		})
		if err != nil {
			return err
		}
		carried = append(carried, got)
		round.Bytes += got.Bytes
		round.Took += got.Flowing
	}
	if p.last != "" {
		round.Span = now.Sub(p.at)
	}
	p.Rounds, p.Carried = append(p.Rounds, round), append(p.Carried, carried)
	p.last, p.at = name, now
	return nil
}
