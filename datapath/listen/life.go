package listen

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"sync"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"golang.org/x/sys/unix"
)

// Ending says why Life.Wait returned.
type Ending struct {
	// Successor is the pid of the process that has taken over, or 0 when this one was told to stop.
	Successor int
	// Stop is closed once this process has been told to stop: at once for a Stopped ending, and
	// when SIGTERM comes during the drain after a hand-over. A drain should then hurry.
	Stop <-chan struct{}
}

// HandedOver says that another process accepts from the same sockets.
func (e Ending) HandedOver() bool { return e.Successor != 0 }

// Life is the life cycle of a serving process: ready, maybe handed over, stopped. The fields
// may be changed before Wait is called.
type Life struct {
	Sockets   *Sockets
	Successor Successor // what SIGHUP starts; this program with its own arguments by default
	Log       *slog.Logger
	// Notify sends a state to the service supervisor; systemd's socket by default.
	Notify func(state string) error

	signals  chan os.Signal
	stop     chan struct{}
	stopOnce sync.Once
}

// NewLife takes over SIGHUP, SIGTERM and SIGINT.
func NewLife(s *Sockets, log *slog.Logger) *Life {
	l := &Life{
		Sockets: s, Log: log, Notify: notifySystemd,
		Successor: Successor{Args: os.Args[1:], Timeout: 30 * time.Second},
		signals:   make(chan os.Signal, 4), stop: make(chan struct{}),
	}
	// The path is the one at start: after an upgrade it names the new program.
	if path, err := os.Executable(); err == nil {
		l.Successor.Path = path
	}
	signal.Notify(l.signals, unix.SIGHUP, unix.SIGTERM, unix.SIGINT)
	return l
}

func notifySystemd(state string) error {
	_, err := daemon.SdNotify(false, state)
	return err
}

// Ready tells whoever started this process that it serves: the predecessor, which then
// announces the new main pid and drains, or else systemd. status is a line for people.
func (l *Life) Ready(status string) error {
	if p := l.Sockets.ready; p != nil {
		l.Sockets.ready = nil
		defer p.Close()
		if _, err := p.WriteString(readyWord); err != nil {
			return fmt.Errorf("listen: telling the predecessor: %w", err)
		}
		return l.Notify("STATUS=" + status)
	}
	return l.Notify("READY=1\nSTATUS=" + status)
}

// Wait blocks until the process is to end: SIGTERM, SIGINT or the end of ctx, or a hand-over
// that worked. A hand-over that failed is logged and Wait goes on waiting.
func (l *Life) Wait(ctx context.Context) Ending {
	for {
		select {
		case <-ctx.Done():
			return l.stopped()
		case sig := <-l.signals:
			if sig != unix.SIGHUP {
				return l.stopped()
			}
			pid, stopped := l.handOver(ctx)
			if stopped {
				return l.stopped()
			}
			if pid != 0 {
				go l.watchStop(ctx)
				return Ending{Successor: pid, Stop: l.stop}
			}
		}
	}
}

func (l *Life) stopped() Ending {
	l.tell("STOPPING=1\nSTATUS=draining")
	l.stopOnce.Do(func() { close(l.stop) })
	return Ending{Stop: l.stop}
}

// watchStop turns a signal during the drain into the closing of Ending.Stop. A second SIGHUP
// is not for this process any more.
func (l *Life) watchStop(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
		case sig := <-l.signals:
			if sig == unix.SIGHUP {
				continue
			}
		}
		l.stopOnce.Do(func() { close(l.stop) })
		return
	}
}

// handOver returns the successor's pid, or 0 after a failure that has been reported. stopped
// says that the order to stop came first; then no successor is left behind.
func (l *Life) handOver(ctx context.Context) (pid int, stopped bool) {
	l.tell("RELOADING=1\n" + daemon.SdNotifyMonotonicUsec() + "\nSTATUS=handing over")
	pid, err := l.startUnlessStopped(ctx)
	if errors.Is(err, errStopped) {
		return 0, true
	}
	if err != nil {
		l.Log.Error("hand-over failed, serving on", "error", err)
		l.tell("READY=1\nSTATUS=hand-over failed, serving on: " + err.Error())
		return 0, false
	}
	l.Log.Info("handed over", "successor", pid)
	// Both in one message: a READY=1 alone would be taken as this process's own.
	l.tell(fmt.Sprintf("MAINPID=%d\nREADY=1", pid))
	return pid, false
}

// errStopped is the cause when the order to stop interrupts a hand-over.
var errStopped = errors.New("told to stop during the hand-over")

// startUnlessStopped starts the successor and keeps listening to signals meanwhile: SIGTERM
// wins, a further SIGHUP is what is already being done.
func (l *Life) startUnlessStopped(ctx context.Context) (int, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	type result struct {
		pid int
		err error
	}
	done := make(chan result, 1)
	go func() {
		pid, err := l.Successor.Start(ctx, l.Sockets)
		done <- result{pid, err}
	}()
	for {
		select {
		case r := <-done:
			return r.pid, r.err
		case sig := <-l.signals:
			if sig == unix.SIGHUP {
				continue
			}
			cancel(errStopped)
			if r := <-done; r.err == nil {
				// It became ready first: it serves, and systemd will tell it to stop too.
				l.stopOnce.Do(func() { close(l.stop) })
				return r.pid, nil
			}
			return 0, errStopped
		}
	}
}

// tell logs instead of failing: a supervisor that does not listen is no reason to stop serving.
func (l *Life) tell(state string) {
	if err := l.Notify(state); err != nil {
		l.Log.Warn("telling the service supervisor failed", "error", err)
	}
}
