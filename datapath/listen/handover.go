package listen

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// readyWord is what a successor writes to the pipe.
const readyWord = "ready\n"

// Causes in a HandOverError of a successor that was started.
var (
	ErrNotReady = errors.New("not ready in time")
	ErrEnded    = errors.New("it ended, or closed its pipe, before it was ready; its log says why")
)

// HandOverError says why no successor took over; the sockets are as before.
type HandOverError struct {
	Path string // program that was started
	PID  int    // 0 if it did not start
	Err  error  // ErrNotReady, ErrEnded, context.Canceled, *fs.PathError, ...
}

func (e *HandOverError) Error() string {
	if e.PID == 0 {
		return fmt.Sprintf("listen: hand-over to %s: %v", e.Path, e.Err)
	}
	return fmt.Sprintf("listen: hand-over to %s (pid %d): %v", e.Path, e.PID, e.Err)
}

// Unwrap returns the cause.
func (e *HandOverError) Unwrap() error { return e.Err }

// Successor describes the program that takes the sockets over.
type Successor struct {
	Path    string        // program
	Args    []string      // without the program's name
	Timeout time.Duration // longest wait for it to be ready
}

// Start runs the successor with every socket of s and returns its pid once it is ready. If it
// is not, it is killed before Start returns. Errors: *HandOverError.
//
// The successor is a sibling of this process, a child of whoever started it: systemd counts a main
// process that another's child was announced as for a stranger, for good, and kills a stranger
// at once at the next stop, instead of waiting for its drain.
func (n Successor) Start(ctx context.Context, s *Sockets) (int, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, n.Timeout, ErrNotReady)
	defer cancel()
	cmd, ready, err := n.command(s)
	if err != nil {
		return 0, &HandOverError{n.Path, 0, err}
	}
	defer ready.Close()
	err = cmd.Start()
	closeAll(cmd.ExtraFiles)
	if err != nil {
		return 0, &HandOverError{n.Path, 0, err}
	}
	// Its parent waits for it; here only its pipe and its handle matter.
	defer cmd.Process.Release()
	if err := awaitReady(ctx, ready, cmd.Process); err != nil {
		return 0, &HandOverError{n.Path, cmd.Process.Pid, err}
	}
	return cmd.Process.Pid, nil
}

// command prepares the child; on success ExtraFiles holds the sockets in order and the pipe's
// writing end last, all owned by the caller.
func (n Successor) command(s *Sockets) (*exec.Cmd, *os.File, error) {
	names, files, err := s.duplicateAll()
	if err != nil {
		return nil, nil, err
	}
	r, w, err := os.Pipe()
	if err != nil {
		closeAll(files)
		return nil, nil, err
	}
	cmd := exec.Command(n.Path, n.Args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_PARENT}
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.ExtraFiles = append(files, w)
	cmd.Env = append(os.Environ(),
		envHandOver+"=1",
		envReadyFD+"="+strconv.Itoa(3+len(files)),
		"LISTEN_FDS="+strconv.Itoa(len(files)),
		"LISTEN_FDNAMES="+strings.Join(names, ":"))
	return cmd, r, nil
}

func (s *Sockets) duplicateAll() (names []string, files []*os.File, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, k := range s.list {
		f, err := duplicate(k)
		if err != nil {
			closeAll(files)
			return nil, nil, &SocketError{Name: k.name, Err: err}
		}
		names, files = append(names, k.name), append(files, f)
	}
	return names, files, nil
}

func closeAll(files []*os.File) {
	for _, f := range files {
		f.Close()
	}
}

// awaitReady returns nil once the successor reported ready; on any other way out it is killed. An
// end of its own shows as the end of the pipe: the exit status goes to its parent alone.
func awaitReady(ctx context.Context, ready *os.File, successor *os.Process) error {
	heard := make(chan bool, 1)
	go func() {
		word := make([]byte, len(readyWord))
		_, err := io.ReadFull(ready, word)
		heard <- err == nil && string(word) == readyWord
	}()
	var cause error
	select {
	case ok := <-heard:
		if ok {
			return nil
		}
		cause = ErrEnded
	case <-ctx.Done():
		cause = context.Cause(ctx)
	}
	if err := successor.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return errors.Join(cause, err)
	}
	return cause
}
