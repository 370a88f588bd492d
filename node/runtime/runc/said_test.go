package runc

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/runtime"
)

// TestWhatRuncSays: of a command that never ran, runc's line is in the error and not in the output; the
// command's own last words stay, whatever they look like. The program in runc's place writes and logs as it does.
func TestWhatRuncSays(t *testing.T) {
	const cannot = "exec failed: unable to start container process: "
	for name, c := range map[string]struct {
		stderr string
		logged bool
		status string
		code   api.Code
		want   string
		shown  string
	}{
		"not in the path": {cannot + `exec: "nosuch": executable file not found in $PATH`, true, "255", api.CodeCommandAbsent, "nosuch: executable file not found in $PATH", ""},
		"no such file":    {cannot + `exec: "/no/such": stat /no/such: no such file or directory`, true, "255", api.CodeCommandAbsent, "/no/such: no such file or directory", ""},
		"no permission":   {cannot + `exec: "/bin/text": permission denied`, true, "255", api.CodeCommandUnusable, "/bin/text: permission denied", ""},
		"a folder":        {cannot + `exec: "/bin": is a directory`, true, "255", api.CodeCommandUnusable, "/bin: is a directory", ""},
		"no program":      {"exec /bin/xtext: exec format error", false, "255", api.CodeCommandUnusable, "/bin/xtext: exec format error", ""},
		"another reason":  {cannot + `chdir to cwd ("/nope") set in config.json failed: no such file or directory`, true, "255", api.CodeExecFailed, "chdir to cwd", ""},
		"its own words":   {"exec failed: too bad", false, "255", "", "", "exec failed: too bad\n"},
		"its own status":  {"exec /bin/x: exec format error", false, "3", "", "", "exec /bin/x: exec format error\n"},
	} {
		t.Run(name, func(t *testing.T) {
			for _, tty := range []bool{false, true} {
				shown, said, err := runTwin(t, c.stderr, c.logged, c.status, tty)
				if strings.ReplaceAll(shown, "\r", "") != c.shown {
					t.Errorf("terminal %t: shown %q", tty, shown)
				}
				if said == "" {
					if c.code != "" || err == nil || err.Error() != "exit status "+c.status {
						t.Errorf("terminal %t: runc said nothing, %v", tty, err)
					}
					continue
				}
				refused := execRefused("i1", said)
				if api.CodeOf(refused) != c.code || !strings.Contains(refused.Error(), c.want) {
					t.Errorf("terminal %t: got %v", tty, refused)
				}
			}
		})
	}
}

// TestLastWordsInPieces: a terminal hands a line on in pieces, and what follows the line frees it.
func TestLastWordsInPieces(t *testing.T) {
	for name, c := range map[string]struct {
		pieces      []string
		shown, held string
	}{
		"a line and its end":      {[]string{"exec failed: no", "\r\n"}, "", "exec failed: no\r\n"},
		"the line in two":         {[]string{"exec /bin/x: exec", " format error\n"}, "", "exec /bin/x: exec format error\n"},
		"after other output":      {[]string{"hello\n", "exec failed: no", "\n"}, "hello\n", "exec failed: no\n"},
		"another line after it":   {[]string{"exec failed: no\n", "on we go\n"}, "exec failed: no\non we go\n", ""},
		"two lines at once":       {[]string{"exec failed: no\non we go\n"}, "exec failed: no\non we go\n", ""},
		"the same again":          {[]string{"exec failed: no\n", "exec failed: no\n"}, "exec failed: no\n", "exec failed: no\n"},
		"longer than runc speaks": {[]string{"exec failed: " + strings.Repeat("x", maxLastWords)}, "exec failed: " + strings.Repeat("x", maxLastWords), ""},
	} {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			f := &stderrFilter{w: &out}
			for _, p := range c.pieces {
				if n, err := f.Write([]byte(p)); n != len(p) || err != nil {
					t.Fatalf("wrote %d of %d: %v", n, len(p), err)
				}
			}
			if out.String() != c.shown || string(f.held) != c.held {
				t.Errorf("shown %q, held %q", out.String(), f.held)
			}
		})
	}
}

// runTwin runs a shell in runc's place, which writes a line to standard error and to its log, and ends.
func runTwin(t *testing.T, line string, logged bool, status string, tty bool) (shown, said string, err error) {
	t.Helper()
	log := filepath.Join(t.TempDir(), "log")
	if logged {
		text := `{"level":"error","msg":"` + strings.ReplaceAll(line, `"`, `\"`) + `"}` + "\n"
		if err := os.WriteFile(log, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var out bytes.Buffer
	c := runtime.Command{TTY: tty, Stdout: &out}
	if !tty {
		c.Stderr = &out
	}
	said, err = runCommand(exec.Command("sh", "-c", `printf '%s\n' "$1" >&2; exit "$2"`, "sh", line, status), c, log)
	return out.String(), said, err
}
