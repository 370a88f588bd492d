package storage

import (
	"bytes"
	"context"
	"io"
	"os"
	"os/exec"
	"strings"
)

// Run runs a program of a file system between a reader and a writer, either of which may be nil, and returns
// what it said on its standard error.
//
// It returns once the program has ended, even if the reader still waits for a peer that says no more: after an
// error the caller closes what it reads from.
func Run(ctx context.Context, in io.Reader, out io.Writer, program string, args ...string) (said string, err error) {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Env = append(cmd.Environ(), "LC_ALL=C")
	var text bytes.Buffer
	cmd.Stdout, cmd.Stderr = out, &text
	if in != nil {
		end, err := feed(cmd, in)
		if err != nil {
			return "", err
		}
		defer end()
	}
	err = cmd.Run()
	if err != nil && ctx.Err() != nil {
		err = ctx.Err()
	}
	return strings.TrimSpace(text.String()), err
}

// feed gives a command its input through a pipe of its own, as exec would wait for the reader's end, also of
// a command that has ended.
func feed(cmd *exec.Cmd, in io.Reader) (end func(), err error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	cmd.Stdin = r
	go func() {
		defer w.Close()
		io.Copy(w, in) //nolint:errcheck // a stream that ends early is told by the command that reads it
	}()
	return func() { r.Close() }, nil
}

// LastLine is the last line of what a program said, which is the one that tells why it failed.
func LastLine(said string) string { return said[strings.LastIndexByte(said, '\n')+1:] }
