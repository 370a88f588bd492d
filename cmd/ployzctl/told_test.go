package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// told is a command with its words and flags, as a hint, an example or the README has it: after a colon, in a line of its own
// or in quotes. Elsewhere the program's name is a word of a sentence.
var told = regexp.MustCompile("(?m)(?:: |  |[`'\"$&|] ?|^)ployzctl((?: +[A-Za-z0-9%./:@=_*-]+)+)")

// named is how a command begins; what is said of the program is told by its verb.
var named = regexp.MustCompile("^[a-z][a-z-]*$")

var verbs = []string{"deploys", "ends"}

// TestCommandsTold: every command that this project tells somebody to type is one, with these flags.
func TestCommandsTold(t *testing.T) {
	seen := 0
	for _, file := range texts(t) {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range told.FindAllStringSubmatch(string(text), -1) {
			words := strings.Fields(m[1])
			if len(words) > 2 && (words[0] == "--host" || words[0] == "--context") {
				words = words[2:]
			}
			if !named.MatchString(words[0]) || slices.Contains(verbs, words[0]) {
				continue
			}
			seen++
			if why := wrong(words); why != "" {
				t.Errorf("%s: ployzctl%s: %s", file, m[1], why)
			}
		}
	}
	if seen < 300 {
		t.Errorf("only %d commands were seen", seen)
	}
}

// texts are the README, the pages beside it, and the sources.
func texts(t *testing.T) (files []string) {
	t.Helper()
	err := filepath.WalkDir("../..", func(path string, d fs.DirEntry, err error) error {
		switch name := d.Name(); {
		case err != nil || !d.IsDir() && !strings.HasSuffix(name, ".md") && (!strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go")):
			return err
		case d.IsDir() && (name == "dist" || name == "bin" || strings.HasPrefix(name, ".") && len(name) > 2):
			return fs.SkipDir
		case !d.IsDir():
			files = append(files, path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// wrong says what no command or flag is among the words; "" where all are.
func wrong(words []string) string {
	root := (&app{}).root()
	root.InitDefaultHelpCmd()
	cmd, rest, err := root.Find(words)
	if err != nil {
		return err.Error()
	}
	group := cmd.HasSubCommands() && (cmd.Args == nil || cmd.Args(cmd, nil) == nil)
	switch {
	case !group || len(rest) == 0 || strings.HasPrefix(rest[0], "-"):
	case strings.Contains(rest[0], "%"): // any of them
		return ""
	default:
		return "no command " + rest[0]
	}
	for _, word := range rest {
		name, is := strings.CutPrefix(word, "--")
		if is && name == "" {
			break // what follows is another program's
		}
		if is && !known(cmd, name) {
			return "no flag " + word
		}
	}
	return ""
}

func known(cmd *cobra.Command, flag string) bool {
	name, _, _ := strings.Cut(strings.TrimRight(flag, ".:"), "=")
	return name == "help" || cmd.Flags().Lookup(name) != nil || cmd.InheritedFlags().Lookup(name) != nil
}
