package sim

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/deploy"
	"github.com/ployz/ployz/node/machine"
	"github.com/ployz/ployz/node/operation"
)

// How long a run waits, in virtual time.
const (
	// calming is until every late message and batch has arrived, and every lease of the dead has run out.
	calming = 5 * time.Minute
	// idling is how long nobody asks for anything.
	idling = 10 * time.Minute
	// ending is until every goroutine of a dead daemon has noticed.
	ending = 2 * time.Hour
)

// verdict is what became of one run.
type verdict struct {
	plan     plan
	broken   []string
	timeline []string
	outcomes map[api.Result]int
}

// run lives through a plan. It must be called in a bubble of testing/synctest; dir is for what is on the
// machines' disks.
func run(p plan, m mutant, dir string) (verdict, error) {
	w, err := newWorld(p, m, dir)
	if err != nil {
		return verdict{}, err
	}
	w.disturb()
	w.calmDown()
	w.settle()
	w.idle()
	w.judge()
	for _, m := range w.machines {
		m.kill()
	}
	time.Sleep(ending)
	return w.verdict(), nil
}

// disturb lets everything happen that the plan says.
func (w *world) disturb() {
	var all sync.WaitGroup
	for i, a := range w.plan.asks {
		all.Go(func() {
			time.Sleep(a.at)
			w.ask(fmt.Sprintf("op%03d", i), a)
		})
	}
	for _, f := range w.plan.faults {
		all.Go(func() { w.strike(f) })
	}
	all.Wait()
}

// ask runs one operation on the machine that is asked; nothing comes back from one that dies over it.
func (w *world) ask(id string, a ask) {
	d := w.machines[a.machine].present()
	if d == nil {
		w.note("%s: nobody there", a)
		return
	}
	op, err := d.operation(id, a)
	if err != nil {
		w.note("%s: %v", a, err)
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	if a.patience > 0 {
		time.AfterFunc(a.patience, cancel)
	}
	w.witness.begins(id, op.Scope(), a)
	w.witness.told(id, d.coordinate(ctx, id, op))
}

// operation makes what is asked for.
func (d *daemon) operation(id string, a ask) (operation.Operation, error) {
	kit := d.deployKit()
	switch a.kind {
	case "deploy":
		return deploy.NewDeploy(kit, a.spec(), nil), nil
	case "scale":
		return deploy.NewScale(kit, a.subject, "app", a.number), nil
	case "rollback":
		return deploy.NewRollback(kit, a.subject, 0), nil
	case "restart":
		return deploy.NewRestart(kit, a.subject, "app"), nil
	case "rm":
		return deploy.NewRemove(kit, a.subject), nil
	case "clear":
		return deploy.NewClear(kit, a.subject), nil
	case "voters":
		return machine.NewVoters(d.machineKit(), api.VotersRequest{Count: a.number}), nil
	case "set":
		role := []string{"", string(machine.Draining)}[a.version%2]
		return machine.NewSet(d.machineKit(), api.MachineSetRequest{Machine: a.subject, Role: &role}), nil
	case "remove":
		return machine.NewRemove(d.machineKit(), api.MachineRemoveRequest{Machine: a.subject}), nil
	case "admit":
		token, err := d.w.invite(id)
		return machine.NewAdmit(d.machineKit(), admission(a.subject, token)), err
	}
	return nil, fmt.Errorf("sim: nobody can be asked to %s", a.kind)
}

// calmDown ends every disturbance and waits until its consequences have ended too.
func (w *world) calmDown() {
	w.calm.Store(true)
	time.Sleep(calming)
	for name, m := range w.machines {
		if w.isMember(name) && m.present() == nil {
			w.note("%s is back: %v", name, m.boot())
		}
	}
	w.note("calm")
}

// settle asks for what an operator asks for afterwards: every scope once.
func (w *world) settle() {
	by := w.someMember()
	if by == "" {
		return
	}
	var asks []ask
	for _, name := range slices.Sorted(maps.Keys(w.machines)) {
		if w.unsettled(name) {
			asks = append(asks, ask{kind: "set", subject: name}) // no role: everything takes everything
		}
	}
	asks = append(asks, ask{kind: "voters"})
	for _, ns := range namespaces {
		if w.known(ns) {
			asks = append(asks, ask{kind: "clear", subject: ns})
		}
	}
	for i, a := range asks {
		a.machine = by
		id := fmt.Sprintf("fin%03d", i)
		w.ask(id, a)
		w.wantCommitted(id)
	}
}

// idle wants the store not to grow while nobody asks for anything.
func (w *world) idle() {
	before := w.witness.count()
	time.Sleep(idling)
	if n := w.witness.count() - before; n > 0 {
		w.witness.breaks("%d batches were written while nobody asked for anything", n)
	}
}

func (w *world) verdict() verdict {
	v := verdict{plan: w.plan, broken: w.witness.broken, timeline: w.witness.timeline, outcomes: map[api.Result]int{}}
	for _, run := range w.witness.all() {
		if run.out == nil {
			v.outcomes["died"]++
			continue
		}
		v.outcomes[run.out.Outcome]++
	}
	return v
}
