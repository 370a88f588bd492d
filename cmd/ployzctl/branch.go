package main

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/sdk"
)

func (a *app) branchCommand() *cobra.Command {
	var (
		body           api.BranchRequest
		hosts, secrets []string
		expires        age
		flags          planFlags
	)
	cmd := &cobra.Command{
		Use: "branch FROM TO", Short: "Copy a namespace as it runs now, with its data",
		Long: `Copy a namespace as it runs now, under a new name: the same images by digest, the same configuration,
and its volumes cloned where they are, in a time that does not depend on how much they hold. The original goes on as
it is. The branch writes its own data, has its own addresses and its own names, and is deployed to, rolled back and
removed as any namespace.

Hostnames are made by a template, {branch}.{host} unless another is given; a wildcard stays in front. What a container
is told of a hostname by its environment or a file is as in the original. Ports that machines or gateways publish have
one owner and are left out; --preview says which.

Each secret has to be decided on: --secret gives a value, one that is set for the new namespace already is taken
(ployzctl secret set), and --secrets copy gives the rest the original's values.

Jobs with x-ployz.job: branch mask the data: each runs when what it depends on is ready, and nothing that none of
them depends on starts before all have ended well. --unmasked leaves them out. Jobs that run before or after a deploy
do not run, since the data is as they left it.`,
		Example: `  ployzctl branch shop try --secrets copy --preview
  ployzctl branch shop try --secret db-password=./pw --hostname 'try.example.com' --expires 3d
  ployzctl branch shop try --secrets copy --hostname '{branch}-{host}' --hostname www.shop.com=try.shop.com`,
		Args: cobra.ExactArgs(2), ValidArgsFunction: a.completeNamespaces,
		RunE: func(cmd *cobra.Command, args []string) error {
			body.From, body.Namespace, body.Expires = args[0], args[1], api.Duration(expires)
			if err := branchNames(&body, hosts); err != nil {
				return err
			}
			if err := branchSecrets(&body, secrets); err != nil {
				return err
			}
			return a.planned(cmd.Context(), flags, api.KindBranch, body)
		},
	}
	cmd.Flags().StringArrayVar(&hosts, "hostname", nil, "how hostnames are made, as `TEMPLATE`, or one of them, as OLD=NEW; may be repeated")
	cmd.Flags().StringVar(&body.Secrets, "secrets", "", "what secrets are that nothing else is said of: `copy`, the original's")
	cmd.Flags().StringArrayVar(&secrets, "secret", nil, "the value of one secret, as `NAME=FILE`; may be repeated")
	cmd.Flags().BoolVar(&body.Unmasked, "unmasked", false, "leave out the jobs that mask the data in branches")
	cmd.Flags().Var(&expires, "expires", "let branch prune take it away after this time, such as 36h or 3d (default: never)")
	flags.add(cmd)
	cmd.AddCommand(a.branchLs(), a.branchShow(), a.branchRm(), a.branchPrune())
	return cmd
}

// branchNames reads what is said of hostnames: at most one template, and single names.
func branchNames(r *api.BranchRequest, hosts []string) error {
	for _, text := range hosts {
		of, as, single := strings.Cut(text, "=")
		switch {
		case single:
			if r.HostNames == nil {
				r.HostNames = map[string]string{}
			}
			r.HostNames[of] = as
		case r.Hosts != "":
			return api.Errorf(api.CodeUsage, "%q and %q are both templates", r.Hosts, text).About("--hostname").WithHint("name one as OLD=NEW")
		default:
			r.Hosts = text
		}
	}
	return nil
}

// branchSecrets reads the files that secrets are given by.
func branchSecrets(r *api.BranchRequest, secrets []string) error {
	for _, text := range secrets {
		name, file, both := strings.Cut(text, "=")
		if !both || name == "" || file == "" {
			return api.Errorf(api.CodeUsage, "%q is not NAME=FILE", text).About("--secret").WithHint("for example --secret db-password=./password")
		}
		value, err := os.ReadFile(file)
		if err != nil {
			return api.Errorf(api.CodeUsage, "%w", err).About("--secret " + name)
		}
		if r.SecretValues == nil {
			r.SecretValues = map[string][]byte{}
		}
		r.SecretValues[name] = value
	}
	return nil
}

func (a *app) completeBranches(_ *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
	return a.ask(args, prefix, func(ctx context.Context, c *sdk.Client) ([]string, error) {
		list, err := c.Branches(ctx)
		var all []string
		for _, b := range list.Branches {
			all = append(all, b.Namespace)
		}
		return all, err
	})
}

func (a *app) branchLs() *cobra.Command {
	return &cobra.Command{
		Use:   "ls [FROM]",
		Short: "List the branches of all namespaces, or of one and of its branches, as a tree",
		Args:  cobra.MaximumNArgs(1), ValidArgsFunction: a.completeNamespaces,
		RunE: func(cmd *cobra.Command, args []string) error {
			list, err := a.branches(cmd.Context())
			if err != nil {
				return err
			}
			if len(args) == 1 {
				list.Branches = under(list.Branches, args[0])
			}
			return a.answer(list, func() error { return a.showBranches(list) })
		},
	}
}

func (a *app) branches(ctx context.Context) (api.BranchList, error) {
	c, err := a.client()
	if err != nil {
		return api.BranchList{}, err
	}
	defer c.Close()
	return c.Branches(ctx)
}

// under are the branches of a namespace, and theirs.
func under(all []api.BranchEntry, from string) []api.BranchEntry {
	related := map[string]bool{from: true}
	for grown := true; grown; {
		grown = false
		for _, b := range all {
			if related[b.From] && !related[b.Namespace] {
				related[b.Namespace], grown = true, true
			}
		}
	}
	return slices.DeleteFunc(all, func(b api.BranchEntry) bool { return !related[b.From] })
}

func (a *app) showBranches(list api.BranchList) error {
	if a.quiet {
		for _, b := range list.Branches {
			fmt.Fprintln(a.out, b.Namespace)
		}
		return nil
	}
	if err := a.table("BRANCH FROM MADE EXPIRES COMMIT MACHINES OWN", branchRows(list.Branches)); err != nil {
		return err
	}
	if list.Uncertain != "" {
		fmt.Fprintln(a.out, "uncertain:", list.Uncertain)
	}
	return nil
}

// branchRows puts each branch below what it was made from. What is no branch itself stands on top with its name alone.
func branchRows(list []api.BranchEntry) (rows [][]string) {
	of, known := map[string][]api.BranchEntry{}, map[string]bool{}
	for _, b := range list {
		of[b.From] = append(of[b.From], b)
		known[b.Namespace] = true
	}
	var add func(from, indent string)
	add = func(from, indent string) {
		children := of[from]
		delete(of, from) // names are used again: a later namespace of that name has no branches twice
		slices.SortFunc(children, func(x, y api.BranchEntry) int {
			return cmp.Or(x.Created.Compare(y.Created), cmp.Compare(x.Namespace, y.Namespace))
		})
		for i, b := range children {
			mark, next := "├─ ", "│  "
			if i == len(children)-1 {
				mark, next = "└─ ", "   "
			}
			rows = append(rows, []string{indent + mark + b.Namespace, fmt.Sprintf("%s@%d", b.From, b.Commit), ago(b.Created), expiry(b), fmt.Sprint(b.Present), orDash(strings.Join(b.Machines, " ")), size(b.OwnBytes)})
			add(b.Namespace, indent+next)
		}
	}
	for _, from := range slices.Sorted(maps.Keys(of)) {
		if !known[from] {
			rows = append(rows, []string{from, "-", "-", "-", "-", "-", "-"})
			add(from, "")
		}
	}
	for _, from := range slices.Sorted(maps.Keys(of)) { // a circle of names that were used again
		add(from, "")
	}
	return rows
}

func expiry(b api.BranchEntry) string {
	switch {
	case b.Expired:
		return "expired"
	case b.Expires.IsZero():
		return "never"
	}
	left := time.Until(b.Expires).Round(time.Minute)
	if left < 48*time.Hour {
		return "in " + short(left)
	}
	hours := int(left.Hours())
	return fmt.Sprintf("in %dd%dh", hours/24, hours%24)
}

func (a *app) branchShow() *cobra.Command {
	return &cobra.Command{
		Use:   "show BRANCH",
		Short: "One branch: what it was made from, its hostnames, and what its volumes began as",
		Args:  cobra.ExactArgs(1), ValidArgsFunction: a.completeBranches,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			defer c.Close()
			b, err := c.Branch(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return a.answer(b, func() error { return a.showBranch(b) })
		},
	}
}

func (a *app) showBranch(b api.BranchEntry) error {
	if a.quiet {
		_, err := fmt.Fprintln(a.out, b.Namespace)
		return err
	}
	fmt.Fprintf(a.out, "branch %s of %s, commit %d\nmade %s by operation %s\nexpires %s\nat commit %d, on %s, its volumes hold %s of their own\n",
		b.Namespace, b.From, b.Commit, ago(b.Created), b.Operation, expiry(b), b.Present, orDash(strings.Join(b.Machines, " ")), size(b.OwnBytes))
	var rows [][]string
	for _, host := range slices.Sorted(maps.Keys(b.Hosts)) {
		rows = append(rows, []string{host, b.Hosts[host]})
	}
	if len(rows) > 0 {
		if err := a.table("HOSTNAME ORIGINAL", rows); err != nil {
			return err
		}
	}
	rows = nil
	for _, name := range slices.Sorted(maps.Keys(b.Volumes)) {
		v := b.Volumes[name]
		rows = append(rows, []string{name, v.Volume + "@" + v.Snapshot, v.GUID})
	}
	if len(rows) > 0 {
		return a.table("VOLUME BEGAN-AS GUID", rows)
	}
	return nil
}
