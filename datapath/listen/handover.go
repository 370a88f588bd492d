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
	"time"
)

// readyWord is what a successor writes to the pipe.
const readyWord = "ready\n"

// ErrNotReady is the cause in a HandOverError when the successor ran but did not report in time.
var ErrNotReady = errors.New("not ready in time")

// HandOverError says why no successor took over; the sockets are as before.
type HandOverError struct {
	Path string // program that was started
	PID  int    // 0 if it did not start
	Err  error  // ErrNotReady, context.Canceled, *exec.ExitError, *fs.PathError, ...
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
	exited := make(chan error, 1)
	go func() { exited <- cmd.Wait() }()
	if err := awaitReady(ctx, ready, exited, cmd.Process); err != nil {
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

// awaitReady returns nil once the child reported ready; on any other way out the child is
// dead and waited for.
func awaitReady(ctx context.Context, ready *os.File, exited <-chan error, child *os.Process) error {
	heard := make(chan bool, 1)
	go func() {
		word := make([]byte, len(readyWord))
		_, err := io.ReadFull(ready, word)
		heard <- err == nil && string(word) == readyWord
	}()
	select {
	case ok := <-heard:
		if ok {
			return nil
		}
		// The pipe is closed without the word: the child has died or is about to.
		return reap(child, exited, errors.New("it closed the pipe without being ready"))
	case err := <-exited:
		return exitCause(err)
	case <-ctx.Done():
		return reap(child, exited, context.Cause(ctx))
	}
}

// reap gives the child a moment to exit by itself, since its exit status says more than our
// kill, and then kills it.
func reap(child *os.Process, exited <-chan error, cause error) error {
	if !errors.Is(cause, ErrNotReady) {
		select {
		case err := <-exited:
			return exitCause(err)
		case <-time.After(time.Second):
		}
	}
	if err := child.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return errors.Join(cause, err)
	}
	<-exited
	return cause
}

func exitCause(err error) error {
	if err == nil {
		return errors.New("it exited with status 0 without being ready")
	}
	return fmt.Errorf("it ended before it was ready: %w", err)
}
