package sdk

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"sync"

	"github.com/ployz/ployz/node/api"
)

// Exec is a command to run inside an instance, with its streams. A nil Stdin is empty input.
type Exec struct {
	api.ExecRequest
	Instance string
	Stdin    io.Reader
	Stdout   io.Writer
	Stderr   io.Writer
	// Resize delivers terminal sizes; only with TTY.
	Resize <-chan api.TerminalSize
}

// Exec runs a command inside an instance and returns its exit status. Errors: runtime.not-found,
// runtime.not-running, runtime.command-not-found, runtime.command-not-executable, runtime.exec-failed, and the connection's.
func (c *Client) Exec(ctx context.Context, e Exec) (int, error) {
	e.ExecRequest.Stdin = e.Stdin != nil
	conn, err := c.dial(ctx)
	if err != nil {
		return 0, c.broken(err)
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	in, err := c.upgrade(conn, e)
	if err != nil {
		return 0, err
	}
	w := &frameWriter{conn: conn}
	if e.Stdin != nil {
		go w.copyFrom(e.Stdin)
	}
	if e.Resize != nil {
		go w.resizes(e.Resize)
	}
	return c.output(in, e)
}

// upgrade asks for the exec and takes the connection out of HTTP.
func (c *Client) upgrade(conn net.Conn, e Exec) (*bufio.Reader, error) {
	body, err := json.Marshal(e.ExecRequest)
	if err != nil {
		return nil, api.Errorf(api.CodeInternal, "encoding the command: %w", err)
	}
	target := "http://ployzd/v1/instances/" + url.PathEscape(e.Instance) + "/exec"
	req, err := http.NewRequest(http.MethodPost, target, bytes.NewReader(body))
	if err != nil {
		return nil, api.Errorf(api.CodeInternal, "making the request: %w", err)
	}
	req.Header.Set("Connection", "Upgrade")
	req.Header.Set("Upgrade", api.ExecProtocol)
	if err := req.Write(conn); err != nil {
		return nil, c.broken(err)
	}
	in := bufio.NewReader(conn)
	resp, err := http.ReadResponse(in, req)
	if err != nil {
		return nil, c.broken(err)
	}
	if resp.StatusCode != http.StatusSwitchingProtocols {
		defer resp.Body.Close()
		return nil, readError(resp)
	}
	return in, nil
}

// output copies the command's output until it ends.
func (c *Client) output(in io.Reader, e Exec) (int, error) {
	for {
		kind, content, err := api.ReadFrame(in)
		if err != nil {
			return 0, c.broken(err)
		}
		switch kind {
		case api.FrameStdout:
			_, err = e.Stdout.Write(content)
		case api.FrameStderr:
			_, err = e.Stderr.Write(content)
		case api.FrameExit:
			return readExit(content)
		}
		if err != nil {
			return 0, api.Errorf(api.CodeExecFailed, "its output could not be written: %w", err)
		}
	}
}

func readExit(content []byte) (int, error) {
	var exit api.ExecExit
	if err := json.Unmarshal(content, &exit); err != nil {
		return 0, api.Errorf(api.CodeInternal, "the command's end cannot be read: %w", err)
	}
	if exit.Error != nil {
		return 0, exit.Error
	}
	return exit.Status, nil
}

// frameWriter writes frames of two sources to one connection. When that is gone, output says so.
type frameWriter struct {
	mu   sync.Mutex
	conn io.Writer // guarded by mu
}

func (w *frameWriter) write(kind api.FrameType, content []byte) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return api.WriteFrame(w.conn, kind, content)
}

func (w *frameWriter) copyFrom(r io.Reader) {
	buf := make([]byte, 32<<10)
	for {
		n, err := r.Read(buf)
		if n > 0 && w.write(api.FrameStdin, buf[:n]) != nil {
			return
		}
		if err != nil {
			if errors.Is(err, io.EOF) {
				w.write(api.FrameStdin, nil) // the end of input
			}
			return
		}
	}
}

func (w *frameWriter) resizes(sizes <-chan api.TerminalSize) {
	for size := range sizes {
		content, err := json.Marshal(size)
		if err != nil || w.write(api.FrameResize, content) != nil {
			return
		}
	}
}
