package api

import (
	"encoding/binary"
	"io"
)

// ExecRequest is the body of POST /v1/instances/{id}/exec. The connection then carries frames.
type ExecRequest struct {
	Args    []string `json:"args"`
	Env     []string `json:"env,omitempty"`
	User    string   `json:"user,omitempty"`
	WorkDir string   `json:"workDir,omitempty"`
	// TTY gives the command a terminal; its size follows as a FrameResize.
	TTY bool `json:"tty,omitempty"`
	// Stdin says that FrameStdin will come; without it the command's input is empty.
	Stdin bool `json:"stdin,omitempty"`
}

// ExecExit is the content of FrameExit: a status, or why the command never ran.
type ExecExit struct {
	Status int    `json:"status"`
	Error  *Error `json:"error,omitempty"`
}

// TerminalSize is the content of FrameResize, in characters.
type TerminalSize struct {
	Columns uint16 `json:"columns"`
	Rows    uint16 `json:"rows"`
}

// ExecProtocol is what both sides name in the Upgrade header of an exec.
const ExecProtocol = "ployz-exec-v1"

// FrameType says what a frame carries.
type FrameType byte

// The frames of an exec. Stdin and Resize go to the daemon, the others come from it.
const (
	FrameStdin  FrameType = iota // bytes; an empty one is the end of the input
	FrameStdout                  // bytes
	FrameStderr                  // bytes
	FrameResize                  // a TerminalSize in JSON
	FrameExit                    // an ExecExit in JSON; the last frame
)

// MaxFrameBytes bounds one frame's content.
const MaxFrameBytes = 64 << 10

// WriteFrame writes one frame: a byte of type, four bytes of length (big endian), the content. It
// is one Write call, so that frames of several writers behind a lock never mix.
func WriteFrame(w io.Writer, kind FrameType, content []byte) error {
	if len(content) > MaxFrameBytes {
		return Errorf(CodeBadRequest, "a frame of %d bytes; the most is %d", len(content), MaxFrameBytes)
	}
	frame := make([]byte, 5+len(content))
	frame[0] = byte(kind)
	binary.BigEndian.PutUint32(frame[1:5], uint32(len(content)))
	copy(frame[5:], content)
	_, err := w.Write(frame)
	return err
}

// ReadFrame reads one frame. Errors: request.malformed for one that is too long or of no known
// type, and the reader's own; io.EOF only between frames.
func ReadFrame(r io.Reader) (FrameType, []byte, error) {
	var head [5]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, nil, err
	}
	kind, n := FrameType(head[0]), binary.BigEndian.Uint32(head[1:])
	if n > MaxFrameBytes || kind > FrameExit {
		return 0, nil, Errorf(CodeBadRequest, "a frame of type %d with %d bytes cannot be", kind, n)
	}
	content := make([]byte, n)
	if _, err := io.ReadFull(r, content); err != nil {
		return 0, nil, io.ErrUnexpectedEOF
	}
	return kind, content, nil
}
