package api_test

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"github.com/ployz/ployz/node/api"
)

func TestFrames(t *testing.T) {
	var wire bytes.Buffer
	if err := api.WriteFrame(&wire, api.FrameStdout, []byte("hello")); err != nil {
		t.Fatal(err)
	}
	if err := api.WriteFrame(&wire, api.FrameStdin, nil); err != nil {
		t.Fatal(err)
	}
	if kind, content, err := api.ReadFrame(&wire); kind != api.FrameStdout || string(content) != "hello" || err != nil {
		t.Errorf("%d %q %v", kind, content, err)
	}
	if kind, content, err := api.ReadFrame(&wire); kind != api.FrameStdin || len(content) != 0 || err != nil {
		t.Errorf("%d %q %v", kind, content, err)
	}
	if _, _, err := api.ReadFrame(&wire); err != io.EOF {
		t.Errorf("at the end: %v", err)
	}
	if err := api.WriteFrame(&wire, api.FrameStdout, make([]byte, api.MaxFrameBytes+1)); api.CodeOf(err) != api.CodeBadRequest {
		t.Errorf("too long: %v", err)
	}
}

func FuzzReadFrame(f *testing.F) {
	f.Add([]byte{1, 0, 0, 0, 2, 'h', 'i'})
	f.Add([]byte{9, 0, 0, 0, 0})
	f.Add([]byte{1, 255, 255, 255, 255})
	f.Add([]byte{1, 0, 0, 0, 2, 'h'})
	f.Fuzz(func(t *testing.T, wire []byte) {
		kind, content, err := api.ReadFrame(bytes.NewReader(wire))
		if err != nil {
			if !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) && api.CodeOf(err) != api.CodeBadRequest {
				t.Fatalf("an untyped error: %v", err)
			}
			return
		}
		var again bytes.Buffer
		if err := api.WriteFrame(&again, kind, content); err != nil || !bytes.HasPrefix(wire, again.Bytes()) {
			t.Fatalf("%d %q does not come back: %v", kind, content, err)
		}
	})
}
