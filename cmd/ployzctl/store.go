package main

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/ployz/ployz/node/api"
)

func (a *app) storeCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "store", Short: "The store of the cluster's facts", Args: cobra.NoArgs, RunE: needsCommand}
	cmd.AddCommand(a.storeStatus(), a.storeVerify(), a.storeVoters(), a.storeRepair(), a.storeRecover(), a.storeReform(), a.storeBackup(), a.storeRestore())
	return cmd
}

func (a *app) storeStatus() *cobra.Command {
	return &cobra.Command{
		Use: "status", Short: "Who votes in the store, and what may be lost next and still be fine", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			r, err := a.storeReport(cmd, false)
			if err != nil {
				return err
			}
			return a.answer(r, func() error { return a.showStore(r) })
		},
	}
}

func (a *app) storeReport(cmd *cobra.Command, verify bool) (api.StoreReport, error) {
	c, err := a.client()
	if err != nil {
		return api.StoreReport{}, err
	}
	defer c.Close()
	return c.Store(cmd.Context(), verify)
}

func (a *app) showStore(r api.StoreReport) error {
	var rows [][]string
	for _, v := range r.Voters {
		part := "follows"
		if v.Machine == r.Leader {
			part = "leads"
		}
		rows = append(rows, []string{v.Machine, a.state(v.State), part, v.Server, fmt.Sprint(v.Lag)})
	}
	if err := a.table("VOTER STATE PART SERVER BEHIND", rows); err != nil {
		return err
	}
	if !r.Writable {
		fmt.Fprintf(a.out, "Nothing can be written: %d voters must be there.\n", r.Quorum)
	}
	for _, line := range r.Statement {
		fmt.Fprintln(a.out, line)
	}
	return nil
}

func (a *app) storeVerify() *cobra.Command {
	return &cobra.Command{
		Use: "verify", Short: "Have every machine sum up its copy of the facts, and compare", Args: cobra.NoArgs,
		Long: `Have every machine sum up its copy of the facts, and compare them with the core's. A copy that differs at the
same position holds another history. Facts that cannot be read are listed: what needs them goes on with what they said
before. The exit status is 3 when a copy differs or could not be asked, or a fact cannot be read.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			r, err := a.storeReport(cmd, true)
			if err != nil {
				return err
			}
			if err := a.answer(r, func() error { return a.showCopies(r) }); err != nil {
				return err
			}
			return verdict(r)
		},
	}
}

func (a *app) showCopies(r api.StoreReport) error {
	var rows [][]string
	for _, c := range r.Copies {
		sum := c.Sum
		if len(sum) > 16 {
			sum = sum[:16]
		}
		remark := "-"
		if c.Error != nil {
			remark = c.Error.Error()
		}
		rows = append(rows, []string{c.Name, fmt.Sprint(c.Last), fmt.Sprint(c.Facts), orDash(sum), remark})
	}
	if err := a.table("COPY LAST FACTS SUM REMARK", rows); err != nil {
		return err
	}
	for _, e := range r.Unreadable {
		fmt.Fprintf(a.out, "unreadable: %s: %s\n", e.Subject, e.Message)
	}
	return nil
}

// verdict is what is wrong with the copies, or nil.
func verdict(r api.StoreReport) error {
	if len(r.Odd) > 0 {
		return api.Errorf(api.CodeStoreDamaged, "other facts than the rest have: %s", strings.Join(r.Odd, ", ")).About("store").
			WithHint("remove each and add it again: ployzctl machine remove NAME")
	}
	for _, c := range r.Copies {
		if c.Error != nil {
			return c.Error
		}
	}
	if len(r.Unreadable) > 0 {
		return r.Unreadable[0]
	}
	return nil
}

func (a *app) storeVoters() *cobra.Command {
	var plan string
	cmd := &cobra.Command{
		Use:   "voters [N]",
		Short: "Set how many machines vote in the store: 1, 2, 3 or 5",
		Long: `Set how many machines vote in the store: 1, 2, 3 or 5. Without a number, what the number of machines asks
for: one alone, two of two, three of three and more. Seats move one at a time, and each is verified before the next.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var body api.VotersRequest
			if len(args) == 1 {
				n, err := strconv.Atoi(args[0])
				if err != nil {
					return api.Errorf(api.CodeUsage, "%q is not a number", args[0]).About("voters")
				}
				body.Count = n
			}
			return a.operate(cmd.Context(), request{kind: api.KindStoreVoters, body: body, plan: plan})
		},
	}
	cmd.Flags().StringVar(&plan, "plan", "", "apply exactly the plan with this `DIGEST`")
	return cmd
}

func (a *app) storeRepair() *cobra.Command {
	var body api.RepairRequest
	var plan planFlags
	var from string
	cmd := &cobra.Command{
		Use:   "repair KEY",
		Short: "Put back, or remove, a fact that cannot be read",
		Long: `Put a fact that cannot be read back to what it said before, or remove it. What needs such a fact is refused with
store.fact-unreadable; 'store verify' lists all of them. The facts of the cluster and of its machines are put back as the
machine that is asked last read them, a namespace's head as its commits say, any other from a backup (--from).

It refuses a fact that can be read, one that may be of the newer version that another machine runs, and to remove (--remove)
what something that runs now would go with. The plan says where the value comes from, and what goes with a removal.`,
		Example: "  ployzctl store repair machine.x3wm1q --preview",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			body.Key = args[0]
			if from != "" && body.Remove {
				return api.Errorf(api.CodeUsage, "a fact is put back (--from) or removed (--remove)").About(body.Key).WithHint("ployzctl store repair --help")
			}
			if from != "" {
				digest, err := a.upload(cmd.Context(), from, "")
				if err != nil {
					return a.refuse(api.KindStoreRepair, err)
				}
				body.Digest = digest
			}
			return a.planned(cmd.Context(), plan, api.KindStoreRepair, body)
		},
	}
	cmd.Flags().StringVar(&from, "from", "", "put it back as the backup in this `FILE` has it")
	cmd.Flags().BoolVar(&body.Remove, "remove", false, "remove the fact")
	plan.lossFlags(cmd)
	return cmd
}

func (a *app) storeBackup() *cobra.Command {
	return &cobra.Command{
		Use:   "backup FILE",
		Short: "Write all facts and the ledger to a file, from the machine that answers",
		Long: `Write all facts and the ledger to a file, from the machine that answers, also while the store cannot be
written. It holds secrets only as they are in the store: sealed to the machines. The digest that is printed, kept
elsewhere, tells a file that was changed on purpose.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			m, err := a.backupTo(cmd, args[0])
			if err != nil {
				return err
			}
			return a.answer(m, func() error {
				_, err := fmt.Fprintf(a.out, "%s: %d facts and %d entries of the ledger, revision %d, of cluster %s as %s had it\ndigest %s\n",
					args[0], m.Facts, m.Entries, m.Revision, m.Cluster, m.Machine, m.Digest)
				return err
			})
		},
	}
}

// backupTo never leaves half a file under the name that was asked for.
func (a *app) backupTo(cmd *cobra.Command, path string) (m api.BackupManifest, err error) {
	c, err := a.client()
	if err != nil {
		return m, err
	}
	defer c.Close()
	file, err := os.OpenFile(path+".part", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return m, api.Errorf(api.CodeUsage, "the file for the backup: %w", err).About(path)
	}
	m, err = c.Backup(cmd.Context(), file)
	if err == nil {
		err = file.Sync()
	}
	if err = errors.Join(err, file.Close()); err != nil {
		return m, errors.Join(err, os.Remove(path+".part"))
	}
	return m, os.Rename(path+".part", path)
}
