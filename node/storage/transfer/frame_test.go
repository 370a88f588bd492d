package transfer

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"testing"

	"github.com/ployz/ployz/node/api"
)

// written is a conversation of three frames.
func written(t testing.TB) [][]byte {
	t.Helper()
	var frames [][]byte
	w := frameWriter{}
	for _, f := range []struct {
		k       kind
		payload string
	}{{kindBytes, "the first bytes"}, {kindBeat, ""}, {kindEnd, `{"bytes":15}`}} {
		var b bytes.Buffer
		w.w = &b
		if err := w.write(f.k, append(make([]byte, headBytes), f.payload...)); err != nil {
			t.Fatal(err)
		}
		frames = append(frames, b.Bytes())
	}
	return frames
}

// read reads frames until there are no more.
func read(stream []byte) (kinds string, payloads []string, err error) {
	r := frameReader{r: bufio.NewReader(bytes.NewReader(stream))}
	for {
		k, length, err := r.head()
		if err != nil {
			return kinds, payloads, err
		}
		payload := make([]byte, length)
		if err := r.body(payload); err != nil {
			return kinds, payloads, err
		}
		kinds, payloads = kinds+string(rune(k)), append(payloads, string(payload))
	}
}

func TestFramesAreReadAsWritten(t *testing.T) {
	kinds, payloads, err := read(bytes.Join(written(t), nil))
	if err != io.EOF || kinds != "dbe" || payloads[0] != "the first bytes" || payloads[1] != "" || payloads[2] != `{"bytes":15}` {
		t.Fatalf("%q %q %v", kinds, payloads, err)
	}
}

// TestEveryFlippedBitIsFound: wherever it is, and at once: what comes before is read, and nothing after.
func TestEveryFlippedBitIsFound(t *testing.T) {
	frames := written(t)
	whole := bytes.Join(frames, nil)
	for bit := range 8 * len(whole) {
		spoilt := bytes.Clone(whole)
		spoilt[bit/8] ^= 1 << (bit % 8)
		intact := 0
		for at := 0; intact < len(frames) && at+len(frames[intact]) <= bit/8; intact++ {
			at += len(frames[intact])
		}
		if kinds, _, err := read(spoilt); api.CodeOf(err) != api.CodeVolumeStreamDamaged || len(kinds) != intact {
			t.Fatalf("bit %d: %q, %v", bit, kinds, err)
		}
	}
}

func TestFramesOutOfOrderAreFound(t *testing.T) {
	f := written(t)
	for name, frames := range map[string][][]byte{
		"the first is lost":   {f[1], f[2]},
		"one is lost":         {f[0], f[2]},
		"one came twice":      {f[0], f[0], f[1], f[2]},
		"two changed places":  {f[0], f[2], f[1]},
		"another's beginning": {f[2], f[0], f[1]},
	} {
		if _, _, err := read(bytes.Join(frames, nil)); api.CodeOf(err) != api.CodeVolumeStreamDamaged {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestFramesEndAnywhere(t *testing.T) {
	whole := bytes.Join(written(t), nil)
	for n := range len(whole) {
		if _, _, err := read(whole[:n]); err != io.EOF && !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Fatalf("after %d bytes: %v", n, err)
		}
	}
}

func TestTooLongAFrameIsNotWritten(t *testing.T) {
	w := frameWriter{w: io.Discard}
	if err := w.write(kindBytes, make([]byte, headBytes+maxPayloadBytes+1)); err == nil {
		t.Error("it was written")
	}
}

// FuzzFrames: whatever comes, it is frames, or damaged, or ends; and nobody's word about a length is believed.
func FuzzFrames(f *testing.F) {
	whole := bytes.Join(written(f), nil)
	f.Add([]byte(nil))
	f.Add(whole)
	f.Add(whole[:len(whole)-1])
	f.Add(bytes.Repeat([]byte{0xff}, 64))
	f.Add([]byte(greeting))
	f.Fuzz(func(t *testing.T, stream []byte) {
		kinds, payloads, err := read(stream)
		total := headBytes * len(kinds)
		for _, p := range payloads {
			total += len(p)
		}
		if total > len(stream) {
			t.Fatalf("%d bytes of frames were read from %d", total, len(stream))
		}
		if code := api.CodeOf(err); err != io.EOF && !errors.Is(err, io.ErrUnexpectedEOF) && code != api.CodeVolumeStreamDamaged {
			t.Fatalf("%v", err)
		}
	})
}
