package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/google/renameio/v2"
	"github.com/spf13/cobra"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/sdk"
)

// contexts names clusters: the file contexts.json in the user's configuration folder.
type contexts struct {
	// Current is used when neither a flag nor the environment says otherwise; "" is this machine.
	Current  string                   `json:"current,omitempty"`
	Contexts map[string]contextTarget `json:"contexts"`
}

type contextTarget struct {
	Host string `json:"host"`
}

func (a *app) contextsPath() (string, error) {
	dir := a.environ("XDG_CONFIG_HOME")
	if dir == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return "", api.Errorf(api.CodeContextInvalid, "no folder for configuration: %w", err)
		}
		dir = filepath.Join(home, ".config")
	}
	return filepath.Join(dir, "ployz", "contexts.json"), nil
}

// loadContexts reads the file; none is no contexts. A user without a home folder has none either.
func (a *app) loadContexts() (contexts, error) {
	c := contexts{Contexts: map[string]contextTarget{}}
	path, err := a.contextsPath()
	if err != nil {
		return c, nil
	}
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return c, nil
	}
	if err == nil {
		err = json.Unmarshal(text, &c)
	}
	if err != nil {
		return c, api.Errorf(api.CodeContextInvalid, "the file of contexts cannot be read: %w", err).About(path)
	}
	if c.Contexts == nil {
		c.Contexts = map[string]contextTarget{}
	}
	return c, nil
}

func (a *app) saveContexts(c contexts) error {
	path, err := a.contextsPath()
	if err != nil {
		return err
	}
	text, err := json.MarshalIndent(c, "", "  ")
	if err == nil {
		err = os.MkdirAll(filepath.Dir(path), 0o700)
	}
	if err == nil {
		err = renameio.WriteFile(path, append(text, '\n'), 0o600)
	}
	if err != nil {
		return api.Errorf(api.CodeContextInvalid, "the file of contexts cannot be written: %w", err).About(path)
	}
	return nil
}

// hostOf finds a context by name.
func (a *app) hostOf(name string) (string, error) {
	c, err := a.loadContexts()
	if err != nil {
		return "", err
	}
	if target, ok := c.Contexts[name]; ok {
		return target.Host, nil
	}
	return "", noContext(name)
}

func noContext(name string) error {
	return api.Errorf(api.CodeContextAbsent, "there is no context %q", name).
		WithHint("list them: ployzctl context ls; make it: ployzctl context add %s ssh://root@HOST", name)
}

func (a *app) contextCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "context", Short: "Names for clusters, so that --host need not be typed", Args: cobra.NoArgs, RunE: needsCommand}
	cmd.AddCommand(a.contextLs(), a.contextUse(), a.contextAdd(), a.contextRm())
	return cmd
}

func (a *app) contextLs() *cobra.Command {
	return &cobra.Command{
		Use: "ls", Short: "List contexts; the current one has a star", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			c, err := a.loadContexts()
			if err != nil {
				return err
			}
			return a.answer(c, func() error { return a.showContexts(c) })
		},
	}
}

func (a *app) showContexts(c contexts) error {
	var rows [][]string
	for _, name := range slices.Sorted(maps.Keys(c.Contexts)) {
		if a.quiet {
			fmt.Fprintln(a.out, name)
			continue
		}
		mark := ""
		if name == c.Current {
			mark = "*"
		}
		rows = append(rows, []string{name, c.Contexts[name].Host, mark})
	}
	if a.quiet {
		return nil
	}
	return a.table("CONTEXT HOST CURRENT", rows)
}

func (a *app) contextUse() *cobra.Command {
	return &cobra.Command{
		Use:               "use NAME",
		Short:             "Make a context the current one; - goes back to this machine",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeContexts,
		RunE: func(_ *cobra.Command, args []string) error {
			return a.changeContexts(func(c *contexts) error {
				if args[0] == "-" {
					c.Current = ""
					return nil
				}
				if _, ok := c.Contexts[args[0]]; !ok {
					return noContext(args[0])
				}
				c.Current = args[0]
				return nil
			})
		},
	}
}

func (a *app) contextAdd() *cobra.Command {
	return &cobra.Command{
		Use:     "add NAME HOST",
		Short:   "Add or replace a context",
		Example: "  ployzctl context add prod ssh://root@m1.example.net",
		Args:    cobra.ExactArgs(2),
		RunE: func(_ *cobra.Command, args []string) error {
			if _, err := sdk.Open(args[1]); err != nil {
				return err
			}
			return a.changeContexts(func(c *contexts) error {
				c.Contexts[args[0]] = contextTarget{args[1]}
				return nil
			})
		},
	}
}

func (a *app) contextRm() *cobra.Command {
	return &cobra.Command{
		Use: "rm NAME", Short: "Remove a context", Args: cobra.ExactArgs(1),
		ValidArgsFunction: a.completeContexts,
		RunE: func(_ *cobra.Command, args []string) error {
			return a.changeContexts(func(c *contexts) error {
				if _, ok := c.Contexts[args[0]]; !ok {
					return noContext(args[0])
				}
				delete(c.Contexts, args[0])
				if c.Current == args[0] {
					c.Current = ""
				}
				return nil
			})
		},
	}
}

func (a *app) changeContexts(change func(*contexts) error) error {
	c, err := a.loadContexts()
	if err != nil {
		return err
	}
	if err := change(&c); err != nil {
		return err
	}
	if err := a.saveContexts(c); err != nil {
		return err
	}
	if a.json {
		return a.writeJSON(c)
	}
	return nil
}
