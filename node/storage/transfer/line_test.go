package transfer

import (
	"context"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ployz/ployz/node/api"
)

func TestSilenceIsNoticed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		here, there := net.Pipe()
		defer there.Close()
		go io.Copy(io.Discard, there) // it takes all, and says nothing
		l := openLine(t.Context(), here, "sender", time.Minute)
		defer l.close()
		begun := time.Now()
		_, _, err := l.next()
		if api.CodeOf(err) != api.CodeVolumeTransferCut || !strings.Contains(err.Error(), "silent") || !api.AsError(err).Retryable {
			t.Errorf("%v", err)
		}
		if took := time.Since(begun); took < time.Minute || took > 70*time.Second {
			t.Errorf("after %s", took)
		}
	})
}

// TestSlowIsNotSilent: a side that thinks for an hour is there.
func TestSlowIsNotSilent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := net.Pipe()
		thinking := openLine(t.Context(), a, "receiver", time.Minute)
		defer thinking.close()
		waiting := openLine(t.Context(), b, "sender", time.Minute)
		defer waiting.close()
		go func() {
			time.Sleep(time.Hour)
			thinking.say(kindEnd, end{Bytes: 7}) //nolint:errcheck // the other end looks
		}()
		go thinking.next() //nolint:errcheck // it hears beats
		var e end
		if err := waiting.hear(kindEnd, &e); err != nil || e.Bytes != 7 {
			t.Errorf("%+v, %v", e, err)
		}
	})
}

// TestNotListeningProvesNothing: who does not read cannot say that nobody spoke.
func TestNotListeningProvesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := net.Pipe()
		l := openLine(t.Context(), a, "sender", time.Minute)
		defer l.close()
		go io.Copy(io.Discard, b)
		time.Sleep(time.Hour)
		go (&frameWriter{w: b}).write(kindEnd, append(make([]byte, headBytes), `{"bytes":7}`...))
		var e end
		if err := l.hear(kindEnd, &e); err != nil || e.Bytes != 7 {
			t.Errorf("%+v, %v", e, err)
		}
	})
}

func TestEndOfTheContextEndsTheLine(t *testing.T) {
	a, b := net.Pipe()
	defer b.Close()
	ctx, stop := context.WithCancelCause(t.Context())
	l := openLine(ctx, a, "sender", 0)
	defer l.close()
	why := api.Errorf(api.CodeLeaseLost, "another took over")
	stop(why)
	_, _, err := l.next()
	if got := l.conclude(ctx, err); api.CodeOf(got) != api.CodeLeaseLost {
		t.Errorf("%v", got)
	}
}

func TestWhatIsNotExpected(t *testing.T) {
	for name, c := range map[string]struct {
		say  func(w io.Writer)
		hear func(l *line) error
		code api.Code
	}{
		"another protocol": {
			func(w io.Writer) { io.WriteString(w, "HTTP/1.1 400 Bad Request\r\n\r\n") },
			func(l *line) error { return l.greet(true) }, api.CodeVolumeStreamDamaged,
		},
		"another version": {
			func(w io.Writer) { io.WriteString(w, strings.Replace(greeting, "1", "2", 1)) },
			func(l *line) error { return l.greet(true) }, api.CodeVolumeStreamDamaged,
		},
		"another kind of frame": {
			func(w io.Writer) { (&frameWriter{w: w}).write(kindGo, make([]byte, headBytes)) },
			func(l *line) error { return l.hear(kindPlan, &plan{}) }, api.CodeVolumeStreamDamaged,
		},
		"no message": {
			func(w io.Writer) { (&frameWriter{w: w}).write(kindPlan, append(make([]byte, headBytes), "{"...)) },
			func(l *line) error { return l.hear(kindPlan, &plan{}) }, api.CodeVolumeStreamDamaged,
		},
		"an end": {func(io.Writer) {}, func(l *line) error { return l.hear(kindPlan, &plan{}) }, api.CodeVolumeTransferCut},
	} {
		a, b := net.Pipe()
		go io.Copy(io.Discard, b)
		go func() { c.say(b); b.Close() }()
		l := openLine(t.Context(), a, "sender", 0)
		if err := c.hear(l); api.CodeOf(err) != c.code {
			t.Errorf("%s: %v", name, err)
		}
		l.close()
	}
}
