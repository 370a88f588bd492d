package dev

import (
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/ployz/ployz/cmd/ployzctl/dev/wire"
	"github.com/ployz/ployz/node/api"
)

func partitionCommand() *cobra.Command {
	var oneWay bool
	cmd := &cobra.Command{
		Use:   "partition LAB GROUP GROUP...",
		Short: "Cut groups of machines off from each other",
		Long: `Cut groups of machines off from each other, until 'heal': not a packet passes between them, of any
protocol. A group is machines with commas between them, and may hold 'client', the lab's network outside
of every machine. Machines of no group keep talking to all. Partitions come on top of each other.`,
		Example: `  ployzctl dev partition demo m1,m2 m3
  ployzctl dev partition demo m1 m2 m3,client
  ployzctl dev partition demo m1 m2 --one-way   # m2 no longer hears m1, and m1 hears m2`,
		Args: cobra.MinimumNArgs(3),
		RunE: func(cmd *cobra.Command, args []string) error {
			return faulty(cmd, args[0], Partition(args[0], Split{Groups: ParseGroups(args[1:]...), OneWay: oneWay}))
		},
	}
	cmd.Flags().BoolVar(&oneWay, "one-way", false, "drop only packets from the first group to the second")
	return cmd
}

func blockCommand() *cobra.Command {
	var only string
	cmd := &cobra.Command{
		Use:   "block LAB/MACHINE udp|tcp|icmp",
		Short: "Drop all packets of one protocol from and to a machine",
		Long: `Drop all packets of one protocol from and to a machine, until 'heal', and let all else pass, as many
firewalls do.`,
		Example: `  ployzctl dev block demo/m1 udp
  ployzctl dev block demo/m1 udp --only from    # m1 still hears what others send`,
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			name, machine, err := splitPlace(args[0])
			if err != nil {
				return err
			}
			return faulty(cmd, name, BlockProtocol(name, Block{Machine: machine, Protocol: args[1], Only: Direction(only)}))
		},
	}
	cmd.Flags().StringVar(&only, "only", "", "drop only packets 'from' or 'to' the machine")
	return cmd
}

func delayCommand() *cobra.Command {
	var jitter time.Duration
	var loss, reorder string
	cmd := &cobra.Command{
		Use:   "delay LAB/MACHINE DELAY",
		Short: "Make a machine's line slow, lossy or disorderly",
		Long: `Make a machine's line to the underlay slow, lossy or disorderly, until 'heal' or the next 'delay'. Each
packet to and from the machine takes DELAY longer, so a round trip takes twice that. A delay of 0s is for
a line that only loses or reorders.`,
		Example: `  ployzctl dev delay demo/m1 50ms
  ployzctl dev delay demo/m1 50ms --jitter 10ms --loss 1% --reorder 5%`,
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			name, machine, err := splitPlace(args[0])
			if err != nil {
				return err
			}
			line, err := wire.ParseLine(args[1] + " --jitter " + jitter.String() + " --loss " + loss + " --reorder " + reorder)
			if err != nil {
				return api.Errorf(api.CodeDevOptions, "%w", err).WithHint("ployzctl dev delay %s 50ms --loss 1%%", args[0])
			}
			self, err := os.Executable()
			if err != nil {
				return err
			}
			return faulty(cmd, name, Delay(cmd.Context(), name, machine, line, self, "dev", "wire"))
		},
	}
	f := cmd.Flags()
	f.DurationVar(&jitter, "jitter", 0, "how much the delay varies, up and down")
	f.StringVar(&loss, "loss", "0%", "share of packets that get lost")
	f.StringVar(&reorder, "reorder", "0%", "share of packets that overtake those that wait")
	return cmd
}

// wireCommand is what Delay runs in the lab.
func wireCommand() *cobra.Command {
	return &cobra.Command{
		Use: "wire MACHINE PORT LINE", Short: "Carry a bad line's packets", Args: cobra.ExactArgs(3), Hidden: true,
		RunE: func(_ *cobra.Command, args []string) error { return wire.Main(args[0], args[1], args[2]) },
	}
}

func healCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "heal LAB",
		Short:   "Remove every partition, block and delay",
		Example: `  ployzctl dev heal demo`,
		Args:    cobra.ExactArgs(1),
		RunE:    func(cmd *cobra.Command, args []string) error { return faulty(cmd, args[0], Heal(args[0])) },
	}
}

// faulty ends a command about faults: it prints the lab's faults as they now are.
func faulty(cmd *cobra.Command, name string, err error) error {
	if err != nil {
		return err
	}
	l, err := openLab(name)
	if err != nil {
		return err
	}
	faults, err := l.faults()
	if err != nil {
		return err
	}
	if wantsJSON(cmd) {
		return printJSON(cmd, map[string]any{"name": name, "faults": faults})
	}
	showFaults(cmd.OutOrStdout(), []Lab{{Name: name, Faults: faults}})
	return nil
}

func showFaults(w io.Writer, labs []Lab) {
	for _, lab := range labs {
		for _, f := range lab.Faults {
			fmt.Fprintf(w, "%s: %s%s\n", lab.Name, f.Text, dropped(f))
		}
	}
}

func dropped(f Fault) string {
	if f.Dropped == 0 {
		return ""
	}
	return fmt.Sprintf(" (%d packets dropped)", f.Dropped)
}

func cutCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "cut LAB/MACHINE",
		Short: "Cut a machine's power",
		Long: `Cut a machine's power: everything in it ends at once, without a word to any of it, and it stays off.

In a lab that was brought up with --disk-images, what the machine had not synced to /var/lib/ployz is lost,
as on a real machine. Without, everything that it had written is kept. The rest of its disk always is.`,
		Example: `  ployzctl dev cut demo/m1
  ployzctl dev boot demo/m1`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			name, machine, err := splitPlace(args[0])
			if err != nil {
				return err
			}
			return powered(cmd, name, PowerCut(name, machine))
		},
	}
}

func bootCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "boot LAB/MACHINE",
		Short:   "Boot a machine that is off",
		Example: `  ployzctl dev boot demo/m1`,
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			name, machine, err := splitPlace(args[0])
			if err != nil {
				return err
			}
			return powered(cmd, name, Boot(cmd.Context(), name, machine))
		},
	}
}

// powered ends a command about machines: with --json it prints the lab as it now is.
func powered(cmd *cobra.Command, name string, err error) error {
	if err != nil || !wantsJSON(cmd) {
		return err
	}
	lab, err := Inspect(name)
	if err != nil {
		return err
	}
	return printJSON(cmd, lab)
}

func readdressCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "readdress LAB/MACHINE ADDRESS",
		Short: "Give a machine another address in the lab's network",
		Long: `Give a machine another IPv4 or IPv6 address in the lab's network in the place of the one that it has, at
once and for its next boots. For a machine behind NAT it is its router's. It is no fault, and 'heal' leaves it.`,
		Example: `  ployzctl dev readdress demo/m1 10.90.0.77
  ployzctl dev readdress demo/m1 fd90:10:90::77`,
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			name, machine, err := splitPlace(args[0])
			if err != nil {
				return err
			}
			return powered(cmd, name, Readdress(cmd.Context(), name, machine, args[1]))
		},
	}
}
