package main

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/machine"
	"github.com/ployz/ployz/node/mesh"
	"github.com/ployz/ployz/node/sdk"
)

func (a *app) machineCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "machine", Short: "The cluster's machines", Args: cobra.NoArgs, RunE: needsCommand}
	cmd.AddCommand(a.machineAdd(), a.machineToken(), a.machineLs(), a.machineShow(), a.machineSet(),
		a.machineRole("drain", "Let the next deploys move what they may off a machine, and place nothing new there", `Let the next deploys move what they may off a machine, and place nothing new there. Services with volumes
stay where their volumes are: 'migrate --all --from NAME' moves both.`, string(machine.Draining)),
		a.machineRole("activate", "Let deploys place on a machine again", "", ""), a.machineRemove(), a.machineRTT(), a.machineUpdate())
	return cmd
}

// joinFlags are what an operator may say of a machine that joins.
func joinFlags(cmd *cobra.Command, r *api.JoinRequest) {
	cmd.Flags().StringVar(&r.Name, "name", "", "the machine's `NAME` (default: its host name)")
	cmd.Flags().StringVar(&r.Region, "region", "", "the `REGION` that it is in")
	cmd.Flags().StringVar(&r.Zone, "zone", "", "the `ZONE` that it is in")
	cmd.Flags().StringToStringVar(&r.Labels, "label", nil, "a label, as `KEY=VALUE`; may be repeated")
	cmd.Flags().Var((*endpoints)(&r.Endpoints), "endpoint", "where others reach it, as `ADDRESS:PORT`; may be repeated (default: its own addresses)")
}

// endpoints is a flag that may be repeated.
type endpoints []netip.AddrPort

// String implements pflag.Value.
func (e *endpoints) String() string { return "" }

// Type implements pflag.Value.
func (e *endpoints) Type() string { return "endpoint" }

// Set implements pflag.Value.
func (e *endpoints) Set(text string) error {
	at, err := netip.ParseAddrPort(text)
	if err != nil {
		return fmt.Errorf("want ADDRESS:PORT, such as 192.0.2.7:51820")
	}
	*e = append(*e, at)
	return nil
}

func (a *app) machineAdd() *cobra.Command {
	var body api.JoinRequest
	var pool poolFlags
	cmd := &cobra.Command{
		Use:   "add HOST",
		Short: "Add a machine that your ssh reaches",
		Long: `Add a machine that your ssh reaches, as root@HOST, and on which the package is installed.

It makes a token on the cluster's machine that answers, and joins the new one with it. Everything is
checked before anything is written: its kernel, its ports, UDP both ways, its clock, its version, its name,
and what its pool of volumes needs.
Then the store gets the voters that the new number of machines asks for: see store voters.`,
		Example: "  ployzctl machine add root@m2.example --zone rack-2",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := pool.into(&body.PoolRequest); err != nil {
				return a.refuse(api.KindMachineJoin, err)
			}
			return a.addMachine(cmd.Context(), hostURL(args[0]), body)
		},
	}
	joinFlags(cmd, &body)
	pool.add(cmd)
	return cmd
}

// hostURL makes what ssh takes into what --host takes.
func hostURL(host string) string {
	if strings.Contains(host, "://") {
		return host
	}
	return "ssh://" + host
}

func (a *app) addMachine(ctx context.Context, host string, body api.JoinRequest) error {
	joiner, err := sdk.Open(host)
	if err != nil {
		return a.refuse(api.KindMachineJoin, err)
	}
	defer joiner.Close()
	if err := a.belongsToNone(ctx, joiner); err != nil { // before a token is made for nobody
		return a.refuse(api.KindMachineJoin, err)
	}
	token, out, err := a.newToken(ctx, 0)
	if err != nil || out.Outcome != api.Committed {
		return endedBefore(a, out, err)
	}
	body.Token = token
	if out, err = a.joinWith(ctx, joiner, body); err != nil {
		return err
	}
	err = a.showOutcome(a.andVote(ctx, a.whichWay(ctx, token, out)))
	a.notePool(out)
	return err
}

// belongsToNone refuses a machine that is a member already, with the names of both clusters.
func (a *app) belongsToNone(ctx context.Context, joiner *sdk.Client) error {
	there, err := joiner.Status(ctx)
	if err != nil || there.Cluster.ID == "" {
		return err
	}
	c, err := a.client()
	if err != nil {
		return err
	}
	defer c.Close()
	here, err := c.Status(ctx)
	if err != nil {
		return err
	}
	return api.Errorf(api.CodeMachineInitialised, "it is %s of cluster %s (%s), and is to join cluster %s (%s)", there.Machine.Name,
		there.Cluster.Name, there.Cluster.ID, here.Cluster.Name, here.Cluster.ID).About(there.Machine.Name).WithHint("look at it there: ployzctl status")
}

// whichWay adds to a join that found UDP closed what the machine that gave the token received: so it is known which
// way is closed.
func (a *app) whichWay(ctx context.Context, token string, out api.Outcome) api.Outcome {
	if out.Error == nil || out.Error.Code != api.CodeTokenUnreachable {
		return out
	}
	seen, err := a.tokenSeen(ctx, token)
	switch {
	case err != nil:
		a.note("what arrived there is not known: %v", err)
		return out
	case !seen.Known:
		return out
	}
	e := *out.Error
	e.Details = append(e.Details, closedWay(seen))
	out.Error = &e
	return out
}

func closedWay(seen api.TokenSeen) *api.Error {
	if seen.Received == 0 {
		return api.Errorf(api.CodeTokenUnreachable, "nothing of the new machine arrived at %s: UDP to %s is closed, or it is not at those addresses", seen.Machine, seen.Machine).
			About(seen.Machine).WithHint("say where it is reached: ployzctl machine set %s --endpoint ADDRESS:PORT", seen.Machine)
	}
	return api.Errorf(api.CodeTokenUnreachable, "%s heard the new machine at %s (%d bytes): UDP from %s to there is closed", seen.Machine, seen.Endpoint, seen.Received, seen.Machine).
		About(seen.Machine).WithHint("open UDP to the new machine, in answer to what it sends")
}

func (a *app) tokenSeen(ctx context.Context, token string) (seen api.TokenSeen, err error) {
	t, err := machine.DecodeToken(token)
	if err != nil {
		return seen, err
	}
	raw, err := mesh.ParseKey(t.Private)
	if err != nil {
		return seen, err
	}
	c, err := a.client()
	if err != nil {
		return seen, err
	}
	defer c.Close()
	return c.TokenSeen(ctx, mesh.NewPrivateKey(raw).Public().String())
}

// andVote gives the store the voters that the new number of machines asks for. That is an operation of its own, and
// one that did not work leaves the machine joined.
func (a *app) andVote(ctx context.Context, joined api.Outcome) api.Outcome {
	if joined.Outcome != api.Committed {
		return joined
	}
	err := a.vote(ctx)
	if err == nil {
		return joined
	}
	joined.Outcome = api.CommittedLeftovers
	joined.Leftovers = append(joined.Leftovers, api.Leftover{
		Subject: "store voters", Problem: fmt.Sprintf("they are as they were: %v", err), Clear: "ployzctl store voters",
	})
	return joined
}

// Machines that are added at once change the voters one after another: a seat takes seconds.
const (
	voteWithin = 2 * time.Minute
	voteAgain  = 500 * time.Millisecond
)

// vote sets the voters, and waits for whoever is changing them. Of several that were added at once all but a few find
// that nothing is left to change, and need no turn for that.
func (a *app) vote(ctx context.Context) error {
	for deadline := time.Now().Add(voteWithin); ; {
		if a.votersSet(ctx) {
			return nil
		}
		out, err := a.run(ctx, request{kind: api.KindStoreVoters, body: api.VotersRequest{}})
		if err == nil && out.Error != nil {
			err = out.Error
		}
		if err == nil || api.CodeOf(err) != api.CodeScopeBusy || time.Now().After(deadline) {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(voteAgain):
		}
	}
}

// votersSet says that the store has the voters that the number of machines asks for.
func (a *app) votersSet(ctx context.Context) bool {
	c, err := a.client()
	if err != nil {
		return false
	}
	defer c.Close()
	plan, err := c.Preview(ctx, api.KindStoreVoters, api.VotersRequest{})
	return err == nil && len(plan.Unmet) == 0 && len(plan.Changes) == 0
}

func endedBefore(a *app, out api.Outcome, err error) error {
	if err != nil {
		return err
	}
	return a.showOutcome(out)
}

func (a *app) joinWith(ctx context.Context, c *sdk.Client, body api.JoinRequest) (api.Outcome, error) {
	return a.follow(ctx, c, api.KindMachineJoin, func(ctx context.Context, each func(api.Event)) (api.Outcome, error) {
		return c.Run(ctx, api.KindMachineJoin, body, "", each)
	})
}

// newToken makes the key that the token is, and has the cluster let it in.
func (a *app) newToken(ctx context.Context, ttl time.Duration) (string, api.Outcome, error) {
	private := mesh.GenerateKey()
	out, err := a.run(ctx, request{kind: api.KindMachineToken, body: api.TokenRequest{Key: private.Public().String(), TTL: api.Duration(ttl)}})
	if err != nil || out.Outcome != api.Committed {
		return "", out, err
	}
	raw := private.Bytes()
	token := machine.TokenText{Private: base64.StdEncoding.EncodeToString(raw[:])}
	if err := json.Unmarshal(out.Value, &token.TokenResult); err != nil {
		return "", out, api.Errorf(api.CodeInternal, "the token's result cannot be read: %w", err)
	}
	text, err := token.Encode()
	return text, out, err
}

func (a *app) machineToken() *cobra.Command {
	var ttl time.Duration
	cmd := &cobra.Command{
		Use:   "token",
		Short: "Make a token with which one machine may join",
		Long: `Make a token with which one machine may join, within its time, over the machine that answers.
Whoever has it may become a member: hand it on as you would a password.`,
		Example: "  ployzctl machine token | ssh root@m2 ployzctl join",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			text, out, err := a.newToken(cmd.Context(), ttl)
			if err != nil || out.Outcome != api.Committed {
				return endedBefore(a, out, err)
			}
			return a.answer(map[string]string{"token": text}, func() error {
				_, err := fmt.Fprintln(a.out, text)
				return err
			})
		},
	}
	cmd.Flags().DurationVar(&ttl, "ttl", 0, "how long it may be used, at most and by default 15m")
	return cmd
}

func (a *app) joinCommand() *cobra.Command {
	var body api.JoinRequest
	var pool poolFlags
	cmd := &cobra.Command{
		Use:   "join",
		Short: "Make this machine a member of a cluster, by a token",
		Long: `Make this machine a member of a cluster, by a token that "ployzctl machine token" printed on one of
its machines. Without --token it is read from standard input.`,
		Example: "  ployzctl join --token ployz1-…",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if body.Token == "" {
				text, err := io.ReadAll(io.LimitReader(a.in, 64<<10))
				if err != nil {
					return a.refuse(api.KindMachineJoin, err)
				}
				body.Token = strings.TrimSpace(string(text))
			}
			if _, err := machine.DecodeToken(body.Token); err != nil {
				return a.refuse(api.KindMachineJoin, err)
			}
			if err := pool.into(&body.PoolRequest); err != nil {
				return a.refuse(api.KindMachineJoin, err)
			}
			out, err := a.run(cmd.Context(), request{kind: api.KindMachineJoin, body: body})
			if err != nil {
				return err
			}
			err = a.showOutcome(a.andVote(cmd.Context(), out))
			a.notePool(out)
			return err
		},
	}
	pool.add(cmd)
	cmd.Flags().StringVar(&body.Token, "token", "", "the `TOKEN` (default: read from standard input)")
	joinFlags(cmd, &body)
	return cmd
}

func (a *app) machineLs() *cobra.Command {
	return &cobra.Command{
		Use: "ls", Short: "List the cluster's machines, and what this one sees of them", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			list, err := a.machines(cmd.Context())
			if err != nil {
				return err
			}
			return a.answer(list, func() error { return a.showMachines(list) })
		},
	}
}

func (a *app) machines(ctx context.Context) ([]api.MachineEntry, error) {
	c, err := a.client()
	if err != nil {
		return nil, err
	}
	defer c.Close()
	return c.Machines(ctx)
}

func (a *app) showMachines(list []api.MachineEntry) error {
	var rows [][]string
	for _, m := range list {
		if a.quiet {
			fmt.Fprintln(a.out, m.Name)
			continue
		}
		votes := "-"
		if m.Voter {
			votes = "votes"
		}
		rows = append(rows, []string{
			m.Name, a.state(m.Seen.State), votes, orDash(m.Role), orDash(m.Region), orDash(m.Zone), m.Subnet4.String(), m.Overlay.String(),
			reachedAt(m), ago(m.Seen.Handshake),
		})
	}
	if a.quiet {
		return nil
	}
	return a.table("NAME SEEN STORE ROLE REGION ZONE SUBNET OVERLAY ENDPOINT HANDSHAKE", rows)
}

// reachedAt is where packets for a machine go.
func reachedAt(m api.MachineEntry) string {
	if m.Relay != "" {
		return "via " + m.Relay
	}
	return orDash(m.Seen.Endpoint)
}

func (a *app) machineShow() *cobra.Command {
	return &cobra.Command{
		Use: "show NAME", Short: "Show one machine", Args: cobra.ExactArgs(1), ValidArgsFunction: a.completeMachines,
		RunE: func(cmd *cobra.Command, args []string) error {
			list, err := a.machines(cmd.Context())
			if err != nil {
				return err
			}
			for _, m := range list {
				if m.Name == args[0] {
					return a.answer(m, func() error { return a.showMachine(m) })
				}
			}
			return api.Errorf(api.CodeMachineAbsent, "the cluster has no machine %q", args[0]).About(args[0]).WithHint("list them: ployzctl machine ls")
		},
	}
}

func (a *app) showMachine(m api.MachineEntry) error {
	labels := make([]string, 0, len(m.Labels))
	for key, value := range m.Labels {
		labels = append(labels, key+"="+value)
	}
	return a.table("WHAT VALUE", [][]string{
		{"name", m.Name}, {"id", m.ID}, {"region", orDash(m.Region)}, {"zone", orDash(m.Zone)}, {"role", orDash(m.Role)},
		{"labels", orDash(strings.Join(labels, " "))}, {"overlay", m.Overlay.String()}, {"subnets", m.Subnet4.String() + " " + m.Subnet6.String()},
		{"mesh key", orDash(m.MeshKey)}, {"endpoints", orDash(strings.TrimSpace(joined(" ", m.Endpoints)))},
		{"relay", orDash(m.Relay)}, {"votes", fmt.Sprint(m.Voter)}, {"seen", a.state(m.Seen.State)}, {"reached at", orDash(m.Seen.Endpoint)}, {"last handshake", ago(m.Seen.Handshake)},
	})
}

func (a *app) machineSet() *cobra.Command {
	var region, zone, role, relay string
	var body api.MachineSetRequest
	cmd := &cobra.Command{
		Use:     "set NAME",
		Short:   "Change what placement knows of a machine, or where others reach it",
		Example: "  ployzctl machine set m2 --zone rack-2 --label disk=ssd\n  ployzctl machine set m3 --relay m1   # for a machine that not all others reach",
		Args:    cobra.ExactArgs(1), ValidArgsFunction: a.completeMachines,
		RunE: func(cmd *cobra.Command, args []string) error {
			body.Machine = args[0]
			for flag, to := range map[string]struct {
				from *string
				to   **string
			}{"region": {&region, &body.Region}, "zone": {&zone, &body.Zone}, "role": {&role, &body.Role}, "relay": {&relay, &body.Relay}} {
				if cmd.Flags().Changed(flag) {
					*to.to = to.from
				}
			}
			return a.operate(cmd.Context(), request{kind: api.KindMachineSet, body: body})
		},
	}
	cmd.Flags().StringVar(&region, "region", "", "the `REGION` that it is in")
	cmd.Flags().StringVar(&zone, "zone", "", "the `ZONE` that it is in")
	cmd.Flags().StringVar(&role, "role", "", "home_data, compute, draining, disabled or \"\"")
	cmd.Flags().StringVar(&relay, "relay", "", "the `MACHINE` by which all others reach it, or \"\" for none")
	cmd.Flags().StringToStringVar(&body.Labels, "label", nil, "a label, as `KEY=VALUE`, or KEY= to take it away; may be repeated")
	cmd.Flags().Var((*endpoints)(&body.Endpoints), "endpoint", "where others reach it, as `ADDRESS:PORT`; may be repeated")
	return cmd
}

// machineRole is set for one purpose.
func (a *app) machineRole(use, short, long, role string) *cobra.Command {
	return &cobra.Command{
		Long: long,
		Use:  use + " NAME", Short: short, Args: cobra.ExactArgs(1), ValidArgsFunction: a.completeMachines,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.operate(cmd.Context(), request{kind: api.KindMachineSet, body: api.MachineSetRequest{Machine: args[0], Role: &role}})
		},
	}
}

func (a *app) machineRemove() *cobra.Command {
	var body api.MachineRemoveRequest
	var plan string
	cmd := &cobra.Command{
		Use:   "remove NAME",
		Short: "Take a machine out of the cluster",
		Long: `Take a machine out of the cluster: its vote in the store moves first, then its membership and every right
of its keys go. It refuses while the machine holds instances or volumes: drain it, deploy the namespaces without volumes
again, and move the others with 'migrate --all --from NAME'.

--lost is for a machine that is gone for good: it is not asked, and what it alone held is given up.`,
		Args: cobra.ExactArgs(1), ValidArgsFunction: a.completeMachines,
		RunE: func(cmd *cobra.Command, args []string) error {
			body.Machine = args[0]
			return a.operate(cmd.Context(), request{kind: api.KindMachineRemove, body: body, plan: plan})
		},
	}
	cmd.Flags().BoolVar(&body.Lost, "lost", false, "it is gone for good and will not be asked")
	cmd.Flags().StringVar(&plan, "plan", "", "apply exactly the plan with this `DIGEST`")
	return cmd
}

func (a *app) completeMachines(_ *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
	return a.ask(args, prefix, func(ctx context.Context, c *sdk.Client) ([]string, error) {
		list, err := c.Machines(ctx)
		names := make([]string, len(list))
		for i, m := range list {
			names[i] = m.Name
		}
		return names, err
	})
}
