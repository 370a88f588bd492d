package deploy

import (
	"context"
	"fmt"
	"time"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/operation"
	"github.com/ployz/ployz/node/storage"
)

// Carriage is a volume's way from one machine to another, as its coordinator sees it.
type Carriage struct {
	// From has the volume and To is to have it; FromID and ToID are their machines' ids.
	From, To     Carrier
	FromID, ToID string
	Offer        storage.Offer
	// As is the volume as it is to be on the other machine.
	As storage.Spec
	// Pause is after the first break, and twice as long after each further one, up to thirty times it; 0 means 1 s.
	Pause time.Duration
	// Stays leaves the offer of what came over to whoever forgets the snapshots, see Carrier.ForgetSnapshots.
	Stays bool
	// Again is told what broke, and how long the pause is before the next try; nil is nobody.
	Again func(err error, pause time.Duration)
	// Tries bounds them; 0 means 10, which are minutes. Whoever repeats the operation after that begins where it ended.
	Tries int
}

// Run offers the snapshot and has it fetched, again where the link or a daemon breaks: each try begins where the
// last one ended. The offer is withdrawn at the end, unless it stays, also of a ctx that ended. Errors: those of Carrier,
// of the last try.
func (c Carriage) Run(ctx context.Context, by Fenced, progress func(storage.Progress)) (storage.Carried, error) {
	got, err := c.carry(ctx, by, progress)
	if err != nil || !c.Stays {
		c.withdraw(ctx, by)
	}
	return got, err
}

func (c Carriage) carry(ctx context.Context, by Fenced, progress func(storage.Progress)) (storage.Carried, error) {
	pause, tries := c.Pause, c.Tries
	if pause == 0 {
		pause = time.Second
	}
	if tries == 0 {
		tries = 10
	}
	for most := longestPauses * pause; ; pause = min(2*pause, most) {
		got, err := c.try(ctx, by, progress)
		if tries--; err == nil || tries == 0 || !passing(err) {
			return got, err
		}
		if c.Again != nil {
			c.Again(err, pause)
		}
		select {
		case <-ctx.Done():
			return got, context.Cause(ctx)
		case <-time.After(pause):
		}
	}
}

// longestPauses is how many times the first pause the longest is.
const longestPauses = 30

func (c Carriage) try(ctx context.Context, by Fenced, progress func(storage.Progress)) (storage.Carried, error) {
	offer := c.Offer
	offer.To = c.ToID
	// Again each time: a daemon that has started anew has forgotten it.
	if err := c.From.OfferVolume(ctx, by, offer); err != nil {
		return storage.Carried{}, err
	}
	return c.To.FetchVolume(ctx, by, storage.Fetch{From: c.FromID, As: c.As, Snapshot: offer.Snapshot}, progress)
}

// passing tells what another try may mend: a break, a machine that comes back, and the stream before that the other
// side still believes in. A damaged stream is sent again, too.
func passing(err error) bool {
	switch api.CodeOf(err) {
	case api.CodeVolumeTransferCut, api.CodeVolumeNotOffered, api.CodeVolumeInUse, api.CodeVolumeStreamDamaged,
		api.CodeMachineSilent, api.CodeParticipantAbsent, api.CodeParticipantSilent:
		return api.AsError(err).Retryable
	}
	return false
}

// withdrawTime bounds the last word: an offer that stays is gone with the daemon, or with the next offer.
const withdrawTime = 10 * time.Second

func (c Carriage) withdraw(ctx context.Context, by Fenced) {
	ctx, stop := context.WithTimeout(context.WithoutCancel(ctx), withdrawTime)
	defer stop()
	_ = c.From.WithdrawVolume(ctx, by, c.Offer.Volume) // as above
}

// noteAgain has an operation say that a data set's way is tried again.
func noteAgain(act *operation.Act, name string, err error, pause time.Duration) {
	act.Note(fmt.Sprintf("volume %s: %v; it goes on in %s", name, err, api.Rounded(pause)))
}
