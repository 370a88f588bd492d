package transfer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"golang.org/x/time/rate"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/storage"
)

// Outgoing is what a sender offers on a connection.
type Outgoing struct {
	Pool storage.Pool
	// Volume and Snapshot are what the receiver is to have in the end.
	Volume, Snapshot string
	// Every sends each snapshot that follows what the receiver has; else Snapshot alone.
	Every bool
	// BytesPerSecond is the most that is sent; 0 is no limit.
	BytesPerSecond int64
	// Unmeasured is Offer.Unmeasured.
	Unmeasured bool
	// Progress is told of bytes that were sent; nil is nobody.
	Progress func(storage.Progress)
	// Silence is how long the receiver may say nothing; 0 means 30 s.
	Silence time.Duration
}

// Send gives the receiver at the other end of conn what it lacks, and closes conn. It returns once both sides
// agreed on the GUID of every snapshot, or with the first error of either side and what was agreed on before.
// Errors: those of storage.Carrier.Fetch; ctx's own.
func Send(ctx context.Context, conn io.ReadWriteCloser, out Outgoing) (storage.Carried, error) {
	l := openLine(ctx, conn, "receiver", out.Silence)
	s := &sender{Outgoing: out, line: l, receipts: make(chan receipt, 1)}
	defer func() { l.close(); await(s.listening) }()
	s.carried.Volume = out.Volume
	err := s.run(ctx)
	return s.carried, l.conclude(ctx, err, s.listening)
}

// await waits for a goroutine that closes done at its end; nil is one that never began.
func await(done <-chan struct{}) {
	if done != nil {
		<-done
	}
}

type sender struct {
	Outgoing
	line  *line
	limit *rate.Limiter
	meter *meter

	listening chan struct{} // closed when listen ends; nil before it began
	receipts  chan receipt
	carried   storage.Carried
}

func (s *sender) run(ctx context.Context) error {
	var w want
	if err := s.line.greet(false); err != nil {
		return err
	}
	if err := s.line.hear(kindWant, &w); err != nil {
		return err
	}
	p, err := s.plan(ctx, w)
	if err != nil {
		return err
	}
	if err := s.line.say(kindPlan, p); err != nil {
		return err
	}
	if err := s.line.hear(kindGo, &struct{}{}); err != nil {
		return err
	}
	s.meter = newMeter(p.bytes(), s.Progress, time.Now)
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	s.listening = make(chan struct{})
	go s.listen(ctx, stop)
	for _, st := range p.Streams {
		from := storage.From{Volume: s.Volume, Snapshot: st.Snapshot, Base: st.Base}
		if st.Resumed {
			from.Resume = w.Partial
		}
		if err := s.send(ctx, st, from); err != nil {
			return err
		}
	}
	s.carried.Snapshot, s.carried.GUID = p.Snapshot, p.GUID
	s.meter.finish()
	return nil
}

// plan says what will be sent, in bytes as the pool estimates them, unless it is not to be measured.
func (s *sender) plan(ctx context.Context, w want) (plan, error) {
	can := s.Pool.Capabilities()
	p := plan{Backend: can.Backend, Snapshot: s.Snapshot}
	if w.Backend != can.Backend {
		return p, storage.StreamForeign(can.Backend, w.Backend)
	}
	own, err := s.Pool.ListSnapshots(ctx, s.Volume)
	if err != nil {
		return p, err
	}
	if p.Streams, err = choose(own, w.Have, s.Snapshot, s.Every); err != nil {
		return p, err
	}
	for _, o := range own {
		if o.Name == s.Snapshot {
			p.GUID = o.GUID
		}
	}
	if s.Unmeasured && w.Partial == "" { // else the estimate says whether that can be gone on with
		return p, nil
	}
	for i := range p.Streams {
		if err := s.estimate(ctx, &p.Streams[i], w.Partial, i == 0 && can.Resume); err != nil {
			return p, err
		}
	}
	return p, nil
}

// estimate says how large a stream is, and whether it goes on with what the receiver has a part of. A part of another
// snapshot's stream is of no use: the receiver drops it.
func (s *sender) estimate(ctx context.Context, st *stream, partial string, may bool) (err error) {
	from := storage.From{Volume: s.Volume, Snapshot: st.Snapshot, Base: st.Base}
	if may && partial != "" {
		from.Resume = partial
		st.Bytes, err = s.Pool.Estimate(ctx, from)
		if st.Resumed = err == nil; st.Resumed || api.CodeOf(err) != api.CodeVolumeStreamDamaged {
			return err
		}
		from.Resume = ""
	}
	st.Bytes, err = s.Pool.Estimate(ctx, from)
	return err
}

// listen hears the receiver while streams go out: its receipts, and its refusal, which ends them.
func (s *sender) listen(ctx context.Context, stop context.CancelCauseFunc) {
	defer close(s.listening)
	for {
		var r receipt
		if err := s.line.hear(kindReceipt, &r); err != nil {
			stop(err)
			return
		}
		select {
		case s.receipts <- r:
		case <-ctx.Done():
			return
		}
	}
}

// send sends one stream and waits for the receiver's word that it has it.
func (s *sender) send(ctx context.Context, st stream, from storage.From) error {
	begun := time.Now()
	out := s.chunker(ctx)
	err := s.Pool.Send(ctx, from, out)
	if err == nil {
		err = out.flush()
	}
	// What ended it first is the reason: the pool's program then fails in whatever way.
	if cause := context.Cause(ctx); cause != nil {
		err = cause
	} else if out.err != nil {
		err = out.err
	}
	if err != nil {
		return err
	}
	if err := s.line.say(kindEnd, end{Bytes: out.sent.bytes}); err != nil {
		return err
	}
	select {
	case r := <-s.receipts:
		if r.GUID != st.GUID {
			return storage.StreamDamaged(fmt.Errorf("the receiver has %s as %s, and here it is %s", st.Snapshot, r.GUID, st.GUID))
		}
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	agree(&s.carried, st, out.sent, time.Since(begun))
	return nil
}

// chunker makes frames of a pool's stream. A frame is sent when it is full, so that a pool which writes by the page costs
// no more than one that does not, or when the one before was sent a while ago: the other side is to do its part beside.
type chunker struct {
	ctx   context.Context
	s     *sender
	frame []byte
	used  int       // of the frame
	last  time.Time // when one was sent
	sent  flow
	err   error
}

var _ io.ReaderFrom = (*chunker)(nil)

func (s *sender) chunker(ctx context.Context) *chunker {
	size := maxPayloadBytes
	if s.BytesPerSecond > 0 {
		// A tenth of a second's worth, so that the rate is kept from the beginning.
		size = int(min(max(s.BytesPerSecond/10, 512), maxPayloadBytes))
		if s.limit == nil {
			s.limit = rate.NewLimiter(rate.Limit(s.BytesPerSecond), size)
		}
	}
	return &chunker{ctx: ctx, s: s, frame: make([]byte, headBytes+size), used: headBytes}
}

// Write implements io.Writer.
func (c *chunker) Write(p []byte) (int, error) {
	total := 0
	for len(p) > 0 {
		n := copy(c.frame[c.used:], p)
		c.used, p, total = c.used+n, p[n:], total+n
		if err := c.flushFull(); err != nil {
			return total, err
		}
	}
	return total, nil
}

// longestStay is how long what a program wrote stays in a frame, if it goes on writing.
const longestStay = 5 * time.Millisecond

// ReadFrom implements io.ReaderFrom: the pool's program writes into the frame. What was written before it began goes out at
// once, so that the other side's program begins beside this one.
func (c *chunker) ReadFrom(r io.Reader) (total int64, err error) {
	if err := c.flush(); err != nil {
		return 0, err
	}
	for {
		n, err := r.Read(c.frame[c.used:])
		c.used, total = c.used+n, total+int64(n)
		if time.Since(c.last) > longestStay {
			c.err = c.flush()
		}
		if err := c.flushFull(); err != nil {
			return total, err
		}
		if errors.Is(err, io.EOF) {
			return total, nil
		}
		if err != nil {
			return total, err
		}
	}
}

func (c *chunker) flushFull() error {
	if c.used < len(c.frame) {
		return c.err
	}
	return c.flush()
}

// flush sends what there is.
func (c *chunker) flush() error {
	bytes := c.used - headBytes
	if c.err != nil || bytes == 0 {
		return c.err
	}
	begun := time.Now()
	if c.s.limit != nil {
		if c.err = c.s.limit.WaitN(c.ctx, bytes); c.err != nil {
			return c.err
		}
	}
	if c.err = c.s.line.write(kindBytes, c.frame[:c.used]); c.err != nil {
		return c.err
	}
	c.used, c.last = headBytes, time.Now()
	c.sent.pass(bytes, begun)
	c.s.meter.add(bytes)
	return nil
}
