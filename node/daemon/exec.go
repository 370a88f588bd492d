package daemon

import (
	"bufio"
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
	a.Log.Info("exec", "instance", r.PathValue("id"), "caller", caller(r), "command", req.Args[0])
	conn, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		writeError(w, api.Errorf(api.CodeInternal, "taking the connection over: %w", err))
		return
	}
	defer conn.Close()
	head := "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: " + api.ExecProtocol + "\r\n\r\n"
	if _, err := io.WriteString(conn, head); err != nil {
		return // the client is gone
	}
	s := session{conn: conn, in: buffered.Reader, resize: make(chan runtime.Size, 1)}
	s.run(context.WithoutCancel(r.Context()), m.Console, r.PathValue("id"), req)
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
