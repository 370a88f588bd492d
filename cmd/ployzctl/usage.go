package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/ployz/ployz/node/api"
)

// explainArguments makes every command name what it takes when it is given something else; cobra's own
// words only count.
func explainArguments(cmd *cobra.Command) {
	for _, c := range cmd.Commands() {
		explainArguments(c)
	}
	check := cmd.Args
	if check == nil || !cmd.HasParent() {
		return
	}
	cmd.Args = func(c *cobra.Command, args []string) error {
		if check(c, args) == nil {
			return nil
		}
		return wrongArguments(c, args)
	}
}

func wrongArguments(c *cobra.Command, args []string) error {
	if c.HasAvailableSubCommands() && len(args) > 0 {
		return fmt.Errorf("%s has no command %q%s", c.CommandPath(), args[0], suggestion(c, args[0]))
	}
	_, takes, _ := strings.Cut(c.Use, " ")
	if takes == "" {
		return fmt.Errorf("%s takes no arguments, and was given %s", c.CommandPath(), quoted(args))
	}
	return fmt.Errorf("%s takes %s, and was given %s", c.CommandPath(), takes, quoted(args))
}

func quoted(args []string) string {
	if len(args) == 0 {
		return "nothing"
	}
	return fmt.Sprintf("%q", args)[1 : len(fmt.Sprintf("%q", args))-1]
}

// suggestion is the nearest command's name as a remark, or "".
func suggestion(c *cobra.Command, name string) string {
	c.SuggestionsMinimumDistance = 2
	if near := c.SuggestionsFor(name); len(near) > 0 {
		return "; did you mean " + strings.Join(near, " or ") + "?"
	}
	return ""
}

// wrongValue says what a flag takes, where its type says it better than what parses it.
func wrongValue(e *pflag.InvalidValueError) *api.Error {
	flag := e.GetFlag()
	takes := map[string]string{
		"int": "a whole number", "int64": "a whole number", "uint16": "a port number", "float64": "a number",
		"bool": "true or false", "duration": "a duration such as 10s or 1m30s",
	}[flag.Value.Type()]
	if takes == "" {
		return api.Errorf(api.CodeUsage, "%w", e)
	}
	return api.Errorf(api.CodeUsage, "%q is not %s", e.GetValue(), takes).About("--" + flag.Name)
}

// usageError types what cobra said about a command line.
func usageError(ran *cobra.Command, args []string, err error) *api.Error {
	e := api.Errorf(api.CodeUsage, "%w", err)
	if value := (*pflag.InvalidValueError)(nil); errors.As(err, &value) {
		e = wrongValue(value)
	}
	if !ran.HasParent() && strings.HasPrefix(err.Error(), "unknown command") {
		for _, arg := range args {
			if !strings.HasPrefix(arg, "-") && strings.Contains(err.Error(), fmt.Sprintf("%q", arg)) {
				e = api.Errorf(api.CodeUsage, "unknown command %q%s", arg, suggestion(ran, arg))
			}
		}
	}
	return e.WithHint("%s --help", ran.CommandPath())
}
