package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/ployz/ployz/node/api"
)

// manCommand writes man pages for the package, one a command. They carry the version and no date, so
// that equal sources make equal packages.
func (a *app) manCommand() *cobra.Command {
	return &cobra.Command{
		Use: "man DIR", Short: "Write the man pages into a folder", Args: cobra.ExactArgs(1), Hidden: true,
		RunE: func(cmd *cobra.Command, args []string) error { return writeManPages(cmd.Root(), args[0]) },
	}
}

func writeManPages(cmd *cobra.Command, dir string) error {
	if cmd.Hidden || cmd.Name() == "help" || cmd.Name() == "completion" {
		return nil
	}
	if err := os.WriteFile(filepath.Join(dir, pageName(cmd)+".1"), []byte(manPage(cmd)), 0o644); err != nil {
		return api.Errorf(api.CodeBadRequest, "writing a man page: %w", err)
	}
	for _, child := range cmd.Commands() {
		if err := writeManPages(child, dir); err != nil {
			return err
		}
	}
	return nil
}

// pageName is "ployzctl-service-ls" for `ployzctl service ls`.
func pageName(cmd *cobra.Command) string { return strings.ReplaceAll(cmd.CommandPath(), " ", "-") }

// manPage renders one command in roff.
func manPage(cmd *cobra.Command) string {
	var b strings.Builder
	fmt.Fprintf(&b, ".TH %s 1 \"\" \"ployz %s\" \"Ployz\"\n", strings.ToUpper(pageName(cmd)), version)
	fmt.Fprintf(&b, ".SH NAME\n%s \\- %s\n", escaped(pageName(cmd)), escaped(cmd.Short))
	fmt.Fprintf(&b, ".SH SYNOPSIS\n.B %s\n", escaped(cmd.UseLine()))
	b.WriteString(".SH DESCRIPTION\n" + described(cmd))
	options(&b, "OPTIONS", cmd.NonInheritedFlags())
	options(&b, "GLOBAL OPTIONS", cmd.InheritedFlags())
	if cmd.Example != "" {
		b.WriteString(".SH EXAMPLES\n.nf\n" + escaped(cmd.Example) + "\n.fi\n")
	}
	if also := neighbours(cmd); len(also) > 0 {
		b.WriteString(".SH SEE ALSO\n" + strings.Join(also, ",\n") + "\n")
	}
	return b.String()
}

// described is the long text: tables, which are indented, keep their lines.
func described(cmd *cobra.Command) string {
	var b strings.Builder
	for paragraph := range strings.SplitSeq(orText(cmd.Long, cmd.Short), "\n\n") {
		if strings.Contains(paragraph, "\n  ") || strings.HasPrefix(paragraph, "  ") {
			b.WriteString(".PP\n.nf\n" + escaped(paragraph) + "\n.fi\n")
			continue
		}
		b.WriteString(".PP\n" + escaped(paragraph) + "\n")
	}
	return b.String()
}

func orText(text, fallback string) string {
	if text == "" {
		return fallback
	}
	return text
}

func options(b *strings.Builder, title string, flags *pflag.FlagSet) {
	if !flags.HasAvailableFlags() {
		return
	}
	fmt.Fprintf(b, ".SH %s\n", title)
	flags.VisitAll(func(f *pflag.Flag) {
		name := "--" + f.Name
		if f.Shorthand != "" {
			name = "-" + f.Shorthand + ", " + name
		}
		value, usage := pflag.UnquoteUsage(f)
		fmt.Fprintf(b, ".TP\n.B %s\n%s\n", escaped(strings.TrimSpace(name+" "+value)), escaped(usage))
	})
}

// neighbours are the pages one step up and down.
func neighbours(cmd *cobra.Command) []string {
	var pages []string
	if cmd.HasParent() {
		pages = append(pages, ".BR "+escaped(pageName(cmd.Parent()))+" (1)")
	}
	for _, child := range cmd.Commands() {
		if !child.Hidden && child.Name() != "help" && child.Name() != "completion" {
			pages = append(pages, ".BR "+escaped(pageName(child))+" (1)")
		}
	}
	return pages
}

// escaped keeps roff from reading commands into a text.
func escaped(text string) string {
	text = strings.NewReplacer(`\`, `\e`, "-", `\-`).Replace(text)
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		if strings.HasPrefix(line, ".") || strings.HasPrefix(line, "'") {
			lines[i] = `\&` + line
		}
	}
	return strings.Join(lines, "\n")
}
