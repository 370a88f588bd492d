package sdk

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/url"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/ployz/ployz/node/api"
)

// sshArgs are the arguments of the operator's ssh. `ployzctl dial` at the far end pipes its input
// and output to the socket there.
func sshArgs(u *url.URL) []string {
	args := []string{"-T", "-o", "ConnectTimeout=15"}
	if u.Port() != "" {
		args = append(args, "-p", u.Port())
	}
	if u.User != nil && u.User.Username() != "" {
		args = append(args, "-l", u.User.Username())
	}
	command := "ployzctl dial --json"
	if u.Path != "" && u.Path != "/" {
		command += " '" + strings.ReplaceAll(u.Path, "'", `'\''`) + "'"
	}
	return append(args, "--", u.Hostname(), command)
}

// deaf starts a program that does not hear Ctrl-C, which is for this one: it cancels the operation and
// needs the connection to say so. A process group of its own would keep ssh from asking for a password.
const deaf = `trap '' INT; exec "$0" "$@"`

// dialSSH starts ssh and speaks through it. $PLOYZ_SSH names another program than "ssh".
func dialSSH(u *url.URL) (net.Conn, error) {
	program := os.Getenv("PLOYZ_SSH")
	if program == "" {
		program = "ssh"
	}
	if _, err := exec.LookPath(program); err != nil {
		return nil, remote(u, "starting "+program+": "+err.Error())
	}
	return dialThrough(u, exec.Command("sh", slices.Concat([]string{"-c", deaf, program}, sshArgs(u))...))
}

// dialDev reaches a machine of a lab on this computer the same way, with `ployzctl dev exec` in ssh's
// place.
func dialDev(u *url.URL) (net.Conn, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, remote(u, "finding this program: "+err.Error())
	}
	cmd := exec.Command(self, "dev", "exec", u.Host+u.Path, "--", "ployzctl", "dial", "--json")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // deaf, too, and it asks for nothing
	return dialThrough(u, cmd)
}

// dialThrough speaks through a program whose input and output are the far daemon's socket.
func dialThrough(far *url.URL, cmd *exec.Cmd) (net.Conn, error) {
	c := &sshConn{far: far, cmd: cmd}
	cmd.Stderr = &c.stderr
	in, inFar, err := pipe()
	if err != nil {
		return nil, remote(far, "making a pipe: "+err.Error())
	}
	outFar, out, err := pipe()
	if err != nil {
		return nil, remote(far, "making a pipe: "+err.Error())
	}
	cmd.Stdin, cmd.Stdout = inFar, outFar
	c.w, c.r = in, out
	err = cmd.Start()
	inFar.Close()
	outFar.Close()
	if err != nil {
		in.Close()
		out.Close()
		return nil, remote(far, "starting "+cmd.Path+": "+err.Error())
	}
	return c, nil
}

// pipe returns the writing and the reading end, in the order writer, reader of os.Pipe reversed.
func pipe() (w, r *os.File, err error) {
	r, w, err = os.Pipe()
	return w, r, err
}

// remote is the error for a far machine that could not be spoken to.
func remote(far *url.URL, what string) *api.Error {
	e := api.Errorf(api.CodeRemote, "%s", what).About(far.String()).Again()
	if far.Scheme == "dev" {
		return e.WithHint("try it by hand: ployzctl dev exec %s -- ployzctl version", far.Host+far.Path)
	}
	place := far.Hostname()
	if name := far.User.Username(); name != "" {
		place = name + "@" + place
	}
	if far.Port() != "" {
		place = "-p " + far.Port() + " " + place
	}
	return e.WithHint("try it by hand: ssh %s ployzctl version", place)
}

// sshConn is a connection whose far end is reached through a running ssh.
type sshConn struct {
	far    *url.URL
	cmd    *exec.Cmd
	w, r   *os.File
	stderr tail

	once sync.Once
	err  error // how ssh ended, once it was waited for
}

// Read implements net.Conn. Its end carries what the far side said on its way out.
func (c *sshConn) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	if err == io.EOF && n == 0 {
		if why := c.ended(); why != nil {
			return 0, why
		}
	}
	return n, err
}

// ended waits for ssh and tells a failure's reason: the far command's own typed error, or ssh's words.
func (c *sshConn) ended() error {
	c.wait()
	var status *exec.ExitError
	if !errors.As(c.err, &status) {
		return nil
	}
	text := strings.TrimSpace(c.stderr.String())
	last := text[strings.LastIndexByte(text, '\n')+1:]
	var far struct {
		Error *api.Error `json:"error"`
	}
	if json.Unmarshal([]byte(last), &far) == nil && far.Error != nil {
		return far.Error
	}
	if status.ExitCode() == 127 {
		return remote(c.far, "there is no ployzctl on the far machine").WithHint("install the package there: apt install ./ployz_*.deb")
	}
	if last == "" {
		last = status.Error()
	}
	// ssh has one line; this program, in ssh's place for a lab, may have its arrow below the reason.
	hint, arrow := strings.CutPrefix(strings.TrimSpace(last), "→ ")
	if !arrow {
		return remote(c.far, last)
	}
	first, _, _ := strings.Cut(text, "\n")
	return remote(c.far, strings.TrimPrefix(first, "refused: ")).WithHint("%s", hint)
}

func (c *sshConn) wait() { c.once.Do(func() { c.err = c.cmd.Wait() }) }

// Write implements net.Conn.
func (c *sshConn) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	if err != nil {
		if why := c.ended(); why != nil {
			return n, why
		}
	}
	return n, err
}

// Close ends the ssh by ending its input, and by force when that is not enough.
func (c *sshConn) Close() error {
	c.w.Close()
	c.r.Close()
	timer := time.AfterFunc(2*time.Second, func() { c.cmd.Process.Kill() })
	go func() { c.wait(); timer.Stop() }()
	return nil
}

// LocalAddr implements net.Conn.
func (c *sshConn) LocalAddr() net.Addr { return sshAddr("ssh") }

// RemoteAddr implements net.Conn.
func (c *sshConn) RemoteAddr() net.Addr { return sshAddr(c.far.Host) }

// SetDeadline implements net.Conn.
func (c *sshConn) SetDeadline(t time.Time) error {
	return errors.Join(c.r.SetDeadline(t), c.w.SetDeadline(t))
}

// SetReadDeadline implements net.Conn.
func (c *sshConn) SetReadDeadline(t time.Time) error { return c.r.SetReadDeadline(t) }

// SetWriteDeadline implements net.Conn.
func (c *sshConn) SetWriteDeadline(t time.Time) error { return c.w.SetWriteDeadline(t) }

type sshAddr string

// Network implements net.Addr.
func (sshAddr) Network() string { return "ssh" }

// String implements net.Addr.
func (a sshAddr) String() string { return string(a) }

// tail keeps the end of what is written to it.
type tail struct {
	mu  sync.Mutex
	buf bytes.Buffer // guarded by mu
}

// tailBytes is enough for an error in JSON with a log tail.
const tailBytes = 64 << 10

// Write implements io.Writer.
func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf.Write(p)
	if over := t.buf.Len() - tailBytes; over > 0 {
		t.buf.Next(over)
	}
	return len(p), nil
}

// String returns what was kept.
func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.buf.String()
}
