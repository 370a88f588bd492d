package daemon

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"sync"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/runtime"
)

// exec answers POST /v1/instances/{id}/exec. The connection leaves HTTP and carries frames until
// the command has ended; when the client goes, so does the command.
func (a *API) exec(w http.ResponseWriter, r *http.Request) {
	m, err := a.needMember()
	if err != nil {
		writeError(w, err)
		return
	}
	var req api.ExecRequest
	if err := readJSON(r.Body, &req); err != nil {
		writeError(w, err)
		return
	}
	if len(req.Args) == 0 {
		writeError(w, api.Errorf(api.CodeBadRequest, "there is no command").About("args"))
		return
	}
	elsewhere, err := locate(r.Context(), m, r.PathValue("id"))
	if err != nil {
		writeError(w, err)
		return
	}
	if elsewhere != "" {
		a.execElsewhere(w, r, m, elsewhere, req)
		return
	}
	a.Log.Info("exec", "instance", r.PathValue("id"), "caller", caller(r), "command", req.Args[0])
	conn, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		writeError(w, api.Errorf(api.CodeInternal, "taking the connection over: %w", err))
		return
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, switching); err != nil {
		return // the client is gone
	}
	s := session{conn: conn, in: buffered.Reader, resize: make(chan runtime.Size, 1)}
	s.run(context.WithoutCancel(r.Context()), m.Console, r.PathValue("id"), req)
}

// switching takes a connection out of HTTP.
var switching = switchingTo(api.ExecProtocol)

// execElsewhere joins the client's connection to that of the machine where the instance is. Frames pass
// as they are; when one side goes, so does the other.
func (a *API) execElsewhere(w http.ResponseWriter, r *http.Request, m *Member, machine string, req api.ExecRequest) {
	body, err := json.Marshal(req)
	if err != nil {
		writeError(w, api.Errorf(api.CodeInternal, "encoding the command: %w", err))
		return
	}
	ctx, stop := context.WithCancel(context.WithoutCancel(r.Context()))
	defer stop()
	resp, err := m.Elsewhere.Do(ctx, machine, Ask{
		Method: http.MethodPost, Path: r.URL.Path, Body: bytes.NewReader(body), Caller: caller(r),
		Header: http.Header{"Connection": {"Upgrade"}, "Upgrade": {api.ExecProtocol}},
	})
	if err != nil {
		writeError(w, err)
		return
	}
	defer resp.Body.Close()
	far, switched := resp.Body.(io.ReadWriteCloser)
	if !switched {
		writeError(w, api.Errorf(api.CodeMachineSilent, "it did not take the command: %s", resp.Status).About(machine))
		return
	}
	conn, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		writeError(w, api.Errorf(api.CodeInternal, "taking the connection over: %w", err))
		return
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, switching); err != nil {
		return // the client is gone
	}
	joinStreams(conn, buffered.Reader, far)
}

// joinStreams copies both ways until the far side ends; a client that is gone ends it.
func joinStreams(near net.Conn, in io.Reader, far io.ReadWriteCloser) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		io.Copy(far, in) // how it ended shows at the other side
		far.Close()
	}()
	io.Copy(near, far)
	near.Close()
	<-done
}

// session is one exec on its connection.
type session struct {
	conn   net.Conn
	in     *bufio.Reader
	resize chan runtime.Size

	mu sync.Mutex // guards writes to conn
}

func (s *session) run(ctx context.Context, console runtime.Console, id string, req api.ExecRequest) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stdin, feed := io.Pipe()
	reading := make(chan struct{})
	go func() {
		defer close(reading)
		defer cancel() // a client that is gone takes its command with it
		s.read(feed)
	}()
	cmd := runtime.Command{
		Args: req.Args, Env: req.Env, User: req.User, WorkDir: req.WorkDir, TTY: req.TTY,
		Stdout: frames{s, api.FrameStdout}, Stderr: frames{s, api.FrameStderr}, Resize: s.resize,
	}
	if req.Stdin {
		cmd.Stdin = stdin
	}
	status, err := console.Exec(ctx, id, cmd)
	stdin.Close()
	exit, encodeErr := json.Marshal(api.ExecExit{Status: status, Error: api.AsError(err)})
	if encodeErr == nil {
		frames{s, api.FrameExit}.Write(exit) // to a client that may be gone
	}
	s.conn.Close()
	<-reading
}

// read hands the client's frames on until the connection ends.
func (s *session) read(feed *io.PipeWriter) {
	defer close(s.resize)
	defer feed.Close()
	for {
		kind, content, err := api.ReadFrame(s.in)
		if err != nil {
			return
		}
		switch {
		case kind == api.FrameStdin && len(content) == 0:
			feed.Close()
		case kind == api.FrameStdin:
			feed.Write(content) // an ended command reads no more, and its exit frame says so
		case kind == api.FrameResize:
			s.resized(content)
		}
	}
}

// resized keeps only the newest size when the command is slow to take it.
func (s *session) resized(content []byte) {
	var size api.TerminalSize
	if json.Unmarshal(content, &size) != nil {
		return
	}
	select {
	case <-s.resize:
	default:
	}
	s.resize <- runtime.Size{Columns: size.Columns, Rows: size.Rows}
}

// frames writes a stream's bytes as frames.
type frames struct {
	s    *session
	kind api.FrameType
}

// Write implements io.Writer.
func (f frames) Write(p []byte) (int, error) {
	f.s.mu.Lock()
	defer f.s.mu.Unlock()
	done := 0
	for first := true; first || done < len(p); first = false {
		n := min(len(p)-done, api.MaxFrameBytes)
		if err := api.WriteFrame(f.s.conn, f.kind, p[done:done+n]); err != nil {
			return done, err
		}
		done += n
	}
	return done, nil
}
