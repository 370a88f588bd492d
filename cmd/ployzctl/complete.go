package main

import (
	"context"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/ployz/ployz/node/sdk"
)

// completion answers the shell, which waits: a daemon that is slow or away completes to nothing.
type completion = func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective)

const completionPatience = 2 * time.Second

func (a *app) completeFlag(cmd *cobra.Command, flag string, f completion) {
	if err := cmd.RegisterFlagCompletionFunc(flag, f); err != nil {
		panic("ployzctl: " + err.Error()) // the flag is named wrongly above
	}
}

// ask completes the first argument from what the daemon has.
func (a *app) ask(args []string, prefix string, list func(context.Context, *sdk.Client) ([]string, error)) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	ctx, cancel := context.WithTimeout(context.Background(), completionPatience)
	defer cancel()
	c, err := a.client()
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	defer c.Close()
	all, err := list(ctx, c)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	all = slices.DeleteFunc(all, func(s string) bool { return !strings.HasPrefix(s, prefix) })
	slices.Sort(all)
	return slices.Compact(all), cobra.ShellCompDirectiveNoFileComp
}

func (a *app) completeNamespaces(_ *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
	return a.ask(args, prefix, func(ctx context.Context, c *sdk.Client) ([]string, error) {
		return placesOf(ctx, c, true, false, false)
	})
}

// completeAnyNamespace completes one also after the first argument.
func (a *app) completeAnyNamespace(cmd *cobra.Command, _ []string, prefix string) ([]string, cobra.ShellCompDirective) {
	return a.completeNamespaces(cmd, nil, prefix)
}

func (a *app) completeServices(_ *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
	return a.ask(args, prefix, func(ctx context.Context, c *sdk.Client) ([]string, error) {
		return placesOf(ctx, c, false, true, false)
	})
}

func (a *app) completeInstances(_ *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
	return a.ask(args, prefix, func(ctx context.Context, c *sdk.Client) ([]string, error) {
		return placesOf(ctx, c, false, true, true)
	})
}

func placesOf(ctx context.Context, c *sdk.Client, namespaces, services, instances bool) ([]string, error) {
	list, err := c.Services(ctx, "", "")
	var all []string
	for _, s := range list.Services {
		if namespaces {
			all = append(all, s.Namespace)
		}
		if services {
			all = append(all, s.Namespace+"/"+s.Service)
		}
		for _, in := range s.Instances {
			if instances {
				all = append(all, in.ID)
			}
		}
	}
	return all, err
}

func (a *app) completeOperations(_ *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
	return a.ask(args, prefix, func(ctx context.Context, c *sdk.Client) ([]string, error) {
		list, err := c.Operations(ctx, 50)
		var all []string
		for _, o := range list {
			all = append(all, o.Operation)
		}
		return all, err
	})
}

func (a *app) completeImages(_ *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
	return a.ask(args, prefix, func(ctx context.Context, c *sdk.Client) ([]string, error) {
		list, err := c.Images(ctx)
		var all []string
		for _, e := range list {
			all = append(all, e.References...)
		}
		return all, err
	})
}

func (a *app) completeVolumes(_ *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
	return a.ask(args, prefix, func(ctx context.Context, c *sdk.Client) ([]string, error) {
		list, err := c.Volumes(ctx, "", "")
		var all []string
		for _, v := range list.Volumes {
			all = append(all, v.Namespace+"/"+v.Name, v.ID)
		}
		return all, err
	})
}

func (a *app) completeContexts(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	c, err := a.loadContexts()
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return slices.Sorted(maps.Keys(c.Contexts)), cobra.ShellCompDirectiveNoFileComp
}
