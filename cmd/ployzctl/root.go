package main

import (
	"io"

	"github.com/spf13/cobra"

	"github.com/ployz/ployz/cmd/ployzctl/dev"
	"github.com/ployz/ployz/node/sdk"
)

// app is one run of the command.
type app struct {
	in       io.Reader
	out, err io.Writer
	environ  func(string) string

	// The global flags.
	host    string
	context string
	json    bool
	quiet   bool

	// began says that the command line was understood, so that an error is no usage error.
	began bool
}

// root is the whole tree of commands.
func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "ployzctl",
		Short: "Deploy to machines of your own",
		Long: `ployzctl deploys to machines of your own and shows what runs there.

It talks to ployzd on this machine, or with --host or --context to one that your ssh reaches.
What every error code means: ployzctl help errors. Which Compose keys work: ployzctl help compose`,
		SilenceErrors: true, SilenceUsage: true, Version: version,
		PersistentPreRun: func(cmd *cobra.Command, _ []string) {
			a.began = true
			if on, err := cmd.Flags().GetBool("json"); err == nil {
				a.json = on // dev has a flag of its own by that name
			}
		},
	}
	flags := root.PersistentFlags()
	flags.StringVar(&a.host, "host", "", "daemon to talk to, as `URL`: ssh://user@host, unix:///path or dev://LAB/MACHINE (default $PLOYZ_HOST, else this machine's)")
	flags.StringVar(&a.context, "context", "", "cluster to talk to, by the `NAME` of a context (default $PLOYZ_CONTEXT)")
	flags.BoolVar(&a.json, "json", false, "print JSON")
	flags.BoolVarP(&a.quiet, "quiet", "q", false, "print only what is essential")
	a.completeFlag(root, "context", a.completeContexts)
	a.addGroups(root)
	root.DisableSuggestions = true // main has its own, in one line
	explainArguments(root)
	return root
}

// addGroups adds the commands by what they are for, in the order in which help shows them.
func (a *app) addGroups(root *cobra.Command) {
	add := func(id, title string, commands ...*cobra.Command) {
		root.AddGroup(&cobra.Group{ID: id, Title: title})
		for _, c := range commands {
			c.GroupID = id
			root.AddCommand(c)
		}
	}
	add("deploy", "Deploy:", a.deployCommand(), a.previewCommand(), a.historyCommand(), a.diffCommand(), a.rollbackCommand(), a.branchCommand(), a.promoteCommand(),
		a.migrateCommand(), a.removeCommand())
	add("look", "Look and reach in:", a.serviceCommand(), a.logsCommand(), a.execCommand(), a.runCommand(), a.statsCommand())
	add("things", "What deploys use:", a.volumeCommand(), a.imageCommand(), a.valueCommand("secret"), a.valueCommand("config"))
	add("machine", "Machine and cluster:", a.initCommand(), a.joinCommand(), a.machineCommand(), a.storeCommand(), a.statusCommand(), a.doctorCommand(),
		a.operationCommand(), a.eventsCommand(), a.contextCommand(), a.versionCommand(), devCommand())
	root.AddCommand(a.dialCommand(), a.manCommand(), errorsTopic(), composeTopic())
	root.SetHelpCommandGroupID("machine")
	root.SetCompletionCommandGroupID("machine")
}

// devCommand is the lab's tree of commands, with this program's answer to being called by itself.
func devCommand() *cobra.Command {
	cmd := dev.Command()
	cmd.Args, cmd.RunE = cobra.NoArgs, needsCommand
	return cmd
}

// client opens the daemon that the flags, the environment or the current context name, in that order.
func (a *app) client() (*sdk.Client, error) {
	host, err := a.chosenHost()
	if err != nil {
		return nil, err
	}
	return sdk.Open(host)
}

func (a *app) chosenHost() (string, error) {
	switch {
	case a.host != "":
		return a.host, nil
	case a.context != "":
		return a.hostOf(a.context)
	case a.environ("PLOYZ_HOST") != "":
		return a.environ("PLOYZ_HOST"), nil
	case a.environ("PLOYZ_CONTEXT") != "":
		return a.hostOf(a.environ("PLOYZ_CONTEXT"))
	}
	contexts, err := a.loadContexts()
	if err != nil || contexts.Current == "" {
		return "", err
	}
	return a.hostOf(contexts.Current)
}
