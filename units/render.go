package units

import (
	"embed"
	"fmt"
	"path"
	"regexp"
	"strings"
	"text/template"
)

//go:embed templates/*.tmpl
var files embed.FS

// render executes a template twice: the second time with the identity of the first text.
// arguments is called with the identity to carry.
func render(name, file string, arguments func(identity string) any) (Unit, error) {
	t, err := template.New("").Option("missingkey=error").Funcs(template.FuncMap{"word": word, "command": command, "shell": shell}).ParseFS(files, "templates/*.tmpl")
	if err != nil {
		return Unit{}, fmt.Errorf("units: %w", err)
	}
	identity := ""
	for {
		var text strings.Builder
		if err := t.ExecuteTemplate(&text, file, arguments(identity)); err != nil {
			return Unit{}, fmt.Errorf("units: %s: %w", name, err)
		}
		if identity != "" {
			return Unit{Name: name, Text: text.String(), Identity: identity}, nil
		}
		identity = hash(text.String())
	}
}

var wordShape = regexp.MustCompile(`^[A-Za-z0-9._@:/-]+$`)

// word lets through what needs no quoting anywhere in a unit file.
func word(s string) (string, error) {
	if !wordShape.MatchString(s) {
		return "", fmt.Errorf("%q cannot stand in a unit file: letters, digits and . _ @ : / - only", s)
	}
	return s, nil
}

// shell lets through a command line that means the same between quotes of a shell.
func shell(line string) (string, error) {
	for _, w := range strings.Fields(line) {
		if _, err := word(w); err != nil {
			return "", err
		}
	}
	return line, nil
}

// command quotes a program of ours and its arguments for an Exec line.
func command(dir, program string, args []string) (string, error) {
	return Command(append([]string{path.Join(dir, program)}, args...)...)
}

// Command quotes a command for an Exec line: nothing in it is expanded by systemd. It fails for
// control characters, which a unit file cannot hold.
func Command(argv ...string) (string, error) {
	quoted := make([]string, len(argv))
	for i, arg := range argv {
		if strings.ContainsFunc(arg, func(r rune) bool { return r < ' ' || r == 0x7f }) {
			return "", fmt.Errorf("units: %q has a control character", arg)
		}
		quoted[i] = quote(arg)
	}
	return strings.Join(quoted, " "), nil
}

var escapes = strings.NewReplacer(`\`, `\\`, `"`, `\"`, "$", "$$", "%", "%%")

func quote(arg string) string {
	text := escapes.Replace(arg)
	if text != arg || arg == "" || strings.ContainsAny(arg, " ';") {
		return `"` + text + `"`
	}
	return text
}
