package runc

import (
	"bytes"
	"errors"
	"io"
	"os/exec"
	"regexp"
	"strconv"
	"strings"

	"github.com/ployz/ployz/node/api"
)

// stderrFilter passes a command's output on without what runc itself adds to it when the command
// cannot be run: that is in the refusal.
type stderrFilter struct {
	w    io.Writer
	held []byte
}

// Write implements io.Writer. A line that reads like runc's last words waits for the end, or for more
// output than that line: a terminal hands on one line in pieces.
func (f *stderrFilter) Write(p []byte) (int, error) {
	if longer := append(f.held, p...); lastWords(longer) {
		f.held = longer
		return len(p), nil
	}
	if err := f.flush(); err != nil {
		return 0, err
	}
	if lastWords(p) {
		f.held = bytes.Clone(p)
		return len(p), nil
	}
	return f.w.Write(p)
}

// maxLastWords bounds what is held back; runc's sentences have a few hundred bytes.
const maxLastWords = 64 << 10

// lastWords reports whether output is a single line, or the beginning of one, as runc ends with.
func lastWords(text []byte) bool {
	if line, rest, _ := bytes.Cut(text, []byte("\n")); len(rest) > 0 || len(line) > maxLastWords {
		return false
	}
	return bytes.HasPrefix(text, []byte("exec failed: ")) || bytes.HasPrefix(text, []byte("exec /"))
}

func (f *stderrFilter) flush() error {
	held := f.held
	f.held = nil
	if len(held) == 0 {
		return nil
	}
	_, err := f.w.Write(held)
	return err
}

// saidLast is runc's own last line, given what it logged; "" when what was held back is the command's.
// The kernel's refusal of a program's content comes after runc's log is closed, as status 255.
func (f *stderrFilter) saidLast(logged string, err error) string {
	last := strings.TrimSpace(string(f.held))
	var exit *exec.ExitError
	ours := logged != "" && last == logged || logged == "" && notExecuted.MatchString(last) && errors.As(err, &exit) && exit.ExitCode() == 255
	if ours {
		f.held = nil
	}
	if logged == "" && ours {
		return last
	}
	return logged
}

var (
	// notExecuted is what runc's child says in the place of the command that it could not become.
	notExecuted = regexp.MustCompile(`^exec (/[^\n]*): ([^\n:]*)$`)
	// notStarted is how runc says that it looked for the command.
	notStarted = regexp.MustCompile(`: exec: ("(?:[^"\\]|\\.)*"): (?:stat [^\n]*: )?([^\n:]*)$`)
)

// execRefused is the error of a command that never ran, by what runc said.
func execRefused(id, said string) error {
	name, why, code := commandProblem(said)
	if code == api.CodeExecFailed {
		return api.Errorf(code, "%s", said).About("instance " + id)
	}
	return api.Errorf(code, "%s: %s", name, why).About("instance " + id)
}

// commandProblem tells a command that is not there from one that cannot be executed, as shells do.
func commandProblem(said string) (name, why string, code api.Code) {
	if m := notExecuted.FindStringSubmatch(said); m != nil {
		return m[1], m[2], api.CodeCommandUnusable
	}
	m := notStarted.FindStringSubmatch(said)
	if m == nil {
		return "", "", api.CodeExecFailed
	}
	name, err := strconv.Unquote(m[1])
	if err != nil {
		name = m[1]
	}
	if m[2] == "no such file or directory" || m[2] == exec.ErrNotFound.Error() {
		return name, m[2], api.CodeCommandAbsent
	}
	return name, m[2], api.CodeCommandUnusable
}
