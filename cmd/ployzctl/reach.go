package main

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"os"
	"os/signal"
	"regexp"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/deploy"
	"github.com/ployz/ployz/node/sdk"
)

func (a *app) logsCommand() *cobra.Command {
	var (
		q     = sdk.LogQuery{}
		since string
	)
	cmd := &cobra.Command{
		Use:   "logs NAMESPACE[/SERVICE[-N]]",
		Short: "What instances wrote, of a namespace, a service, or one slot such as shop/web-0",
		Example: `  ployzctl logs shop/web
  ployzctl logs -f -n 0 shop
  ployzctl logs --since 10m shop/web-0`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeServices,
		RunE: func(cmd *cobra.Command, args []string) error {
			var err error
			if q.Since, err = sinceArg(since); err != nil {
				return err
			}
			ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			return a.logs(ctx, args[0], q)
		},
	}
	f := cmd.Flags()
	f.BoolVarP(&q.Follow, "follow", "f", false, "go on until Ctrl-C")
	f.IntVarP(&q.Lines, "lines", "n", 100, "how many of the last lines to begin with; -1 is all")
	f.StringVar(&since, "since", "", "only what is newer than this `TIME`: 10m, or 2026-01-02T15:04:05Z")
	return cmd
}

func sinceArg(text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if d, err := time.ParseDuration(text); err == nil {
		return time.Now().Add(-d), nil
	}
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return t, api.Errorf(api.CodeUsage, "--since %q is neither a duration such as 10m nor a time such as 2026-01-02T15:04:05Z", text)
	}
	return t, nil
}

func (a *app) logs(ctx context.Context, place string, q sdk.LogQuery) error {
	c, err := a.client()
	if err != nil {
		return err
	}
	defer c.Close()
	if q, err = a.logQuery(ctx, c, place, q); err != nil {
		return err
	}
	err = c.Logs(ctx, q, a.logLine)
	if ctx.Err() != nil {
		return nil // Ctrl-C ends a follow, and is no error
	}
	return err
}

// slotShape is a slot such as "web-0", or "web-m3" of a global service; a service may be called so too, and wins then.
var slotShape = regexp.MustCompile(`^.+-[a-z0-9]+$`)

// logQuery turns NAMESPACE, NAMESPACE/SERVICE, NAMESPACE/SLOT or an instance's id into a query.
func (a *app) logQuery(ctx context.Context, c *sdk.Client, place string, q sdk.LogQuery) (sdk.LogQuery, error) {
	ns, service, found := strings.Cut(place, "/")
	q.Namespace, q.Service = ns, service
	if !found || !slotShape.MatchString(service) {
		return q, nil
	}
	list, err := c.Services(ctx, ns, "")
	if err != nil {
		return q, err
	}
	for _, s := range list.Services {
		if s.Service == service {
			return q, nil
		}
		for _, in := range s.Instances {
			if in.Slot == service || in.ID == service {
				q.Service, q.Instance = s.Service, in.ID
				return q, nil
			}
		}
	}
	return q, nil // what is not there any more may still have its logs
}

// logLine prints one line, with the instance's name in a colour of its own.
func (a *app) logLine(line api.LogLine) error {
	if a.json {
		return a.writeJSON(line)
	}
	if a.quiet {
		_, err := fmt.Fprintln(a.out, line.Message)
		return err
	}
	hash := fnv.New32a()
	hash.Write([]byte(line.Instance))
	name := a.paint(a.out, fmt.Sprint(31+hash.Sum32()%6), line.Instance)
	_, err := fmt.Fprintf(a.out, "%s %s  %s\n", line.Time.Local().Format("15:04:05.000"), name, line.Message)
	return err
}

func (a *app) execCommand() *cobra.Command {
	var interactive, tty bool
	var e sdk.Exec
	cmd := &cobra.Command{
		Use:   "exec [-it] INSTANCE|NAMESPACE/SERVICE -- COMMAND [ARG...]",
		Short: "Run a command inside a running instance; its exit status becomes this one's",
		Long: `Run a command inside a running instance. Its exit status becomes this one's: 128 + N after signal N,
and as a shell has it 127 when the instance has no such command, and 126 when what it has cannot be
executed. When the instance cannot be reached the exit status is 3. In these cases the last line on
standard error ends with an error code, such as (runtime.command-not-found).`,
		Example: `  ployzctl exec -it shop/web -- sh
  ployzctl exec shop-db-0-x7k2qa -- pg_isready`,
		Args:              cobra.MinimumNArgs(2),
		ValidArgsFunction: a.completeInstances,
		RunE: func(cmd *cobra.Command, args []string) error {
			e.Args, e.TTY, e.Stdout, e.Stderr = afterDashes(args[1:]), tty, a.out, a.err
			if len(e.Args) == 0 {
				return api.Errorf(api.CodeUsage, "there is no command to run").WithHint("for example: ployzctl exec %s -- ls", args[0])
			}
			if interactive {
				e.Stdin = a.in
			}
			return a.exec(cmd.Context(), args[0], e)
		},
	}
	f := cmd.Flags()
	f.BoolVarP(&interactive, "interactive", "i", false, "pass this command's input on")
	f.BoolVarP(&tty, "tty", "t", false, "give the command a terminal")
	f.StringVarP(&e.User, "user", "u", "", "`USER`, as name or uid, with :group (default: the service's)")
	f.StringVarP(&e.WorkDir, "workdir", "w", "", "`FOLDER` to run it in")
	f.StringArrayVarP(&e.Env, "env", "e", nil, "`NAME=VALUE` to add to its environment")
	f.SetInterspersed(false)
	return cmd
}

// afterDashes drops the "--" that may stand before a command; what follows is the command's own.
func afterDashes(args []string) []string {
	if len(args) > 0 && args[0] == "--" {
		return args[1:]
	}
	return args
}

func (a *app) exec(ctx context.Context, place string, e sdk.Exec) error {
	c, err := a.client()
	if err != nil {
		return err
	}
	defer c.Close()
	if e.Instance, err = instanceArg(ctx, c, place); err != nil {
		return err
	}
	restore := func() {}
	if e.TTY {
		if restore, e.Resize, err = a.rawTerminal(); err != nil {
			return err
		}
	}
	status, err := c.Exec(ctx, e)
	restore()
	switch api.CodeOf(err) {
	case api.CodeCommandAbsent:
		status = exitNoCommand
	case api.CodeCommandUnusable:
		status = exitNotExecutable
	}
	if status == 0 {
		return err
	}
	if err != nil {
		a.failed(api.AsError(err))
	}
	return exitStatus(status)
}

// What shells exit with for a command that never ran.
const (
	exitNotExecutable = 126
	exitNoCommand     = 127
)

// instanceArg finds the instance that an argument means: its id, a slot, or a service's first that runs.
func instanceArg(ctx context.Context, c *sdk.Client, place string) (string, error) {
	ns, name, found := strings.Cut(place, "/")
	if !found {
		return place, nil
	}
	list, err := c.Services(ctx, ns, "")
	if err != nil {
		return "", err
	}
	known := false
	for _, s := range list.Services {
		known = known || s.Service == name
		for _, in := range s.Instances {
			if in.Slot == name || s.Service == name && in.State == "running" {
				return in.ID, nil
			}
		}
	}
	if known {
		return "", api.Errorf(api.CodeNotRunning, "no instance of it is running").About(place).
			WithHint("see why: ployzctl service show %s; for a run of its own: ployzctl run %s -- COMMAND", place, place)
	}
	return "", api.Errorf(api.CodeNoSuchService, "the namespace has no service or slot %q", name).About(ns).
		WithHint("list them: ployzctl service ls %s", ns)
}

// rawTerminal hands this terminal to the far command and tells it of every change of size.
func (a *app) rawTerminal() (restore func(), sizes <-chan api.TerminalSize, err error) {
	f, ok := a.in.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return nil, nil, api.Errorf(api.CodeUsage, "-t needs a terminal, and the input is none").WithHint("leave -t away")
	}
	before, err := term.MakeRaw(int(f.Fd()))
	if err != nil {
		return nil, nil, api.Errorf(api.CodeInternal, "preparing the terminal: %w", err)
	}
	changed, resize := make(chan os.Signal, 1), make(chan api.TerminalSize, 1)
	signal.Notify(changed, syscall.SIGWINCH)
	changed <- syscall.SIGWINCH
	go func() {
		defer close(resize)
		for range changed {
			if w, h, err := term.GetSize(int(f.Fd())); err == nil {
				resize <- api.TerminalSize{Columns: uint16(w), Rows: uint16(h)}
			}
		}
	}()
	return func() {
		signal.Stop(changed)
		close(changed)
		term.Restore(int(f.Fd()), before) // nothing better to do than to try
	}, resize, nil
}

func (a *app) runCommand() *cobra.Command {
	var (
		env      []string
		deadline time.Duration
		slot     string
		write    bool
	)
	cmd := &cobra.Command{
		Use:   "run NAMESPACE/SERVICE -- COMMAND [ARG...]",
		Short: "Run a command once, in a service's image with its configuration, secrets and volumes",
		Long: `Run a command once, in a service's image with its configuration, secrets and volumes, in an instance of
its own that is removed afterwards. It is an operation: it is in the ledger, and the namespace is its own
while it runs.

It runs where the volumes are, and they are mounted read-only; with --write-volumes as the service mounts
them, which is refused while an instance writes one. Where the service has volumes of scope slot, --slot
says whose.`,
		Example: `  ployzctl run shop/app -- app migrate --check
  ployzctl run --slot app-0 shop/app -- du -sh /cache
  ployzctl service scale shop/app 0 && ployzctl run --write-volumes shop/app -- app repair`,
		Args:              cobra.MinimumNArgs(2),
		ValidArgsFunction: a.completeServices,
		RunE: func(cmd *cobra.Command, args []string) error {
			ns, service, err := serviceArg(args[0])
			if err != nil {
				return err
			}
			body := api.RunRequest{
				Namespace: ns, Service: service, Command: afterDashes(args[1:]), Deadline: api.Duration(deadline), Slot: slot, WriteVolumes: write,
			}
			if body.Env, err = envArgs(env); err != nil {
				return err
			}
			return a.runOnce(cmd.Context(), body)
		},
	}
	cmd.Flags().StringArrayVarP(&env, "env", "e", nil, "`NAME=VALUE` to add to its environment")
	cmd.Flags().DurationVar(&deadline, "deadline", 0, "end it after this time (default 1h)")
	cmd.Flags().StringVar(&slot, "slot", "", "whose volumes of scope slot it gets, by the `SLOT` such as app-0")
	cmd.Flags().BoolVar(&write, "write-volumes", false, "mount volumes as the service does, and not all read-only")
	cmd.Flags().SetInterspersed(false)
	return cmd
}

func envArgs(pairs []string) (map[string]string, error) {
	env := map[string]string{}
	for _, pair := range pairs {
		name, value, ok := strings.Cut(pair, "=")
		if !ok || name == "" {
			return nil, api.Errorf(api.CodeUsage, "-e %q is not NAME=VALUE", pair)
		}
		env[name] = value
	}
	return env, nil
}

// runOnce runs the operation and shows the instance's output while it runs.
func (a *app) runOnce(ctx context.Context, body api.RunRequest) error {
	output := &runOutput{a: a, ended: make(chan struct{})}
	return a.operate(ctx, request{kind: api.KindRun, body: body, each: output.event})
}

// runOutput follows a run's log from the moment its instance was started.
type runOutput struct {
	a     *app
	stop  context.CancelFunc
	ended chan struct{}
}

// outputPatience is how long the journal may take to hand over a run's last lines.
const outputPatience = 300 * time.Millisecond

// event starts following once the instance has a name, and waits for its last lines once it ended.
func (o *runOutput) event(e api.Event) {
	id, named := strings.CutPrefix(e.Message, deploy.RunningAs)
	switch {
	case named && o.stop == nil && !o.a.json:
		var ctx context.Context
		ctx, o.stop = context.WithCancel(context.Background())
		go o.follow(ctx, id)
	case o.stop != nil && strings.HasPrefix(e.Step, "ready ") && (e.Type == api.EventStepDone || e.Type == api.EventStepFailed):
		time.Sleep(outputPatience)
		o.stop()
		<-o.ended
	}
}

func (o *runOutput) follow(ctx context.Context, instance string) {
	defer close(o.ended)
	c, err := o.a.client()
	if err != nil {
		return
	}
	defer c.Close()
	err = c.Logs(ctx, sdk.LogQuery{Instance: instance, Lines: -1, Follow: true}, func(line api.LogLine) error {
		_, err := fmt.Fprintln(o.a.out, line.Message)
		return err
	})
	if err != nil && !errors.Is(err, context.Canceled) && ctx.Err() == nil {
		o.a.note("its output could not be read: %s", api.AsError(err).Message)
	}
}

func (a *app) statsCommand() *cobra.Command {
	return &cobra.Command{
		Use:               "stats [NAMESPACE[/SERVICE]]",
		Short:             "What running instances use",
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: a.completeServices,
		RunE: func(cmd *cobra.Command, args []string) error {
			ns, service, _ := strings.Cut(strings.Join(args, ""), "/")
			c, err := a.client()
			if err != nil {
				return err
			}
			defer c.Close()
			list, err := c.Stats(cmd.Context(), ns, service)
			if err != nil {
				return err
			}
			if list.Uncertain != "" {
				a.note("uncertain: %s", list.Uncertain)
			}
			return a.answer(list.Instances, func() error { return a.showStats(list.Instances) })
		},
	}
}

func (a *app) showStats(list []api.InstanceStats) error {
	rows := make([][]string, len(list))
	for i, s := range list {
		cpu := "-"
		if s.CPUNanos >= 0 {
			cpu = short(time.Duration(s.CPUNanos))
		}
		rows[i] = []string{s.Instance, cpu, size(s.MemoryBytes), count(s.PIDs), size(s.ReadBytes), size(s.WriteBytes), size(s.RxBytes), size(s.TxBytes)}
	}
	return a.table("INSTANCE CPU-TIME MEMORY PIDS READ WRITTEN RECEIVED SENT", rows)
}

func count(n int64) string {
	if n < 0 {
		return "-"
	}
	return fmt.Sprint(n)
}
