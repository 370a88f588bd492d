package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/ployz/ployz/node/api"
)

func (a *app) serviceCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "service", Short: "Services and their instances", Args: cobra.NoArgs, RunE: needsCommand}
	cmd.AddCommand(a.serviceLs(), a.serviceShow(), a.serviceRestart(), a.serviceScale())
	return cmd
}

// needsCommand answers a group of commands that is called by itself.
func needsCommand(cmd *cobra.Command, _ []string) error {
	return api.Errorf(api.CodeUsage, "%s needs a command", cmd.CommandPath()).WithHint("%s --help", cmd.CommandPath())
}

func (a *app) serviceLs() *cobra.Command {
	return &cobra.Command{
		Use:               "ls [NAMESPACE]",
		Short:             "List services and where they run",
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: a.completeNamespaces,
		RunE: func(cmd *cobra.Command, args []string) error {
			list, err := a.services(cmd.Context(), strings.Join(args, ""), "")
			if err != nil {
				return err
			}
			return a.answer(list.Services, func() error { return a.showServices(list) })
		},
	}
}

func (a *app) services(ctx context.Context, ns, service string) (api.ServiceList, error) {
	c, err := a.client()
	if err != nil {
		return api.ServiceList{}, err
	}
	defer c.Close()
	return c.Services(ctx, ns, service)
}

func (a *app) showServices(list api.ServiceList) error {
	if list.Uncertain != "" {
		a.note("uncertain: %s", list.Uncertain)
	}
	var rows [][]string
	for _, s := range list.Services {
		name := s.Namespace + "/" + s.Service
		if a.quiet {
			fmt.Fprintln(a.out, name)
			continue
		}
		if s.Job {
			rows = append(rows, []string{name, "job", s.Image, "-", "-", "-", "-"})
		}
		for i, in := range s.Instances {
			ready := ""
			if i == 0 {
				ready = readyOf(s)
			} else {
				name = ""
			}
			rows = append(rows, []string{name, ready, s.Image, in.ID, in.Machine, in.State, in.Addresses[0].String()})
		}
		if len(s.Instances) == 0 && !s.Job {
			rows = append(rows, []string{name, "0/0", s.Image, "-", "-", "-", "-"})
		}
	}
	if a.quiet {
		return nil
	}
	return a.table("SERVICE READY IMAGE INSTANCE MACHINE STATE ADDRESS", rows)
}

// readyOf counts the ready instances; without a commit nobody knows how many there should be.
func readyOf(s api.ServiceStatus) string {
	if s.Commit == 0 {
		return "-"
	}
	return fmt.Sprintf("%d/%d", s.Ready, s.Wanted)
}

func (a *app) serviceShow() *cobra.Command {
	return &cobra.Command{
		Use:               "show NAMESPACE/SERVICE",
		Short:             "Everything about one service",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeServices,
		RunE: func(cmd *cobra.Command, args []string) error {
			ns, service, err := serviceArg(args[0])
			if err != nil {
				return err
			}
			list, err := a.services(cmd.Context(), ns, service)
			if err != nil {
				return err
			}
			if len(list.Services) == 0 {
				return api.Errorf(api.CodeNoSuchService, "there is no such service").About(args[0])
			}
			return a.answer(list.Services[0], func() error { return a.showService(list.Services[0]) })
		},
	}
}

func (a *app) showService(s api.ServiceStatus) error {
	release := "what is committed is not known"
	if s.Commit != 0 {
		release = fmt.Sprintf("%d of %d ready, commit %d", s.Ready, s.Wanted, s.Commit)
	}
	fmt.Fprintf(a.out, "%s/%s  %s\n", s.Namespace, s.Service, release)
	fmt.Fprintf(a.out, "image    %s\n         %s\n", s.Image, s.Digest)
	for _, r := range s.Routes {
		from := r.Host + r.Path
		if r.TCP != 0 {
			from = fmt.Sprintf("gateway port %d", r.TCP)
		}
		fmt.Fprintf(a.out, "route    %s → port %d\n", from, r.Port)
	}
	for _, p := range s.Ports {
		fmt.Fprintf(a.out, "port     %d/%s → %d\n", p.Published, p.Protocol, p.Target)
	}
	for _, in := range s.Instances {
		fmt.Fprintf(a.out, "\n%s  on %s, %s\n", in.ID, in.Machine, stateSince(in))
		fmt.Fprintf(a.out, "  addresses %s\n  unit      %s\n", strings.TrimSpace(joined(" ", in.Addresses)), in.Unit)
		if in.Restarts > 0 {
			fmt.Fprintf(a.out, "  restarts  %d\n", in.Restarts)
		}
		if in.ExitCode != nil {
			fmt.Fprintf(a.out, "  ended     with status %d\n", *in.ExitCode)
		}
		for _, d := range in.Drift {
			fmt.Fprintf(a.out, "  drift     %s\n", d)
		}
	}
	return nil
}

// stateSince is a state with its age: how long it runs, or when it last began to.
func stateSince(in api.InstanceStatus) string {
	switch {
	case in.Since.IsZero():
		return in.State
	case in.State == "running":
		return in.State + " for " + short(time.Since(in.Since))
	}
	return in.State + ", started " + ago(in.Since)
}

func (a *app) serviceRestart() *cobra.Command {
	return &cobra.Command{
		Use:               "restart NAMESPACE/SERVICE",
		Short:             "Replace every instance of a service by a new one of the same content",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeServices,
		RunE: func(cmd *cobra.Command, args []string) error {
			ns, service, err := serviceArg(args[0])
			if err != nil {
				return err
			}
			body := api.ServiceRequest{Namespace: ns, Service: service}
			return a.operate(cmd.Context(), request{kind: api.KindRestart, body: body})
		},
	}
}

func (a *app) serviceScale() *cobra.Command {
	return &cobra.Command{
		Use:               "scale NAMESPACE/SERVICE REPLICAS",
		Short:             "Set how many instances a service has; 0 stops it and keeps it",
		Args:              cobra.ExactArgs(2),
		ValidArgsFunction: a.completeServices,
		RunE: func(cmd *cobra.Command, args []string) error {
			ns, service, err := serviceArg(args[0])
			if err != nil {
				return err
			}
			n, err := strconv.Atoi(args[1])
			if err != nil {
				return api.Errorf(api.CodeUsage, "%q is not a number of instances", args[1])
			}
			body := api.ScaleRequest{Namespace: ns, Service: service, Replicas: n}
			return a.operate(cmd.Context(), request{kind: api.KindScale, body: body})
		},
	}
}

// serviceArg reads NAMESPACE/SERVICE.
func serviceArg(text string) (ns, service string, err error) {
	ns, service, found := strings.Cut(text, "/")
	if !found || ns == "" || service == "" {
		return "", "", api.Errorf(api.CodeUsage, "%q is not NAMESPACE/SERVICE", text).WithHint("list them: ployzctl service ls")
	}
	return ns, service, nil
}
