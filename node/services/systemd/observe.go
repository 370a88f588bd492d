package systemd

import (
	"context"
	"errors"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"time"

	"github.com/ployz/ployz/units"
)

// Observe implements services.Supervisor.
func (s *Supervisor) Observe(ctx context.Context, name string) (units.Observation, error) {
	// A process that has ended before systemd noticed is not an answer; look again.
	deadline := time.Now().Add(2 * time.Second)
	for {
		o, err := s.observeOnce(ctx, name)
		if !errors.Is(err, errGone) || time.Now().After(deadline) || ctx.Err() != nil {
			return o, err
		}
		time.Sleep(2 * time.Millisecond)
	}
}

func (s *Supervisor) observeOnce(ctx context.Context, name string) (units.Observation, error) {
	have, err := s.files.read(name)
	if err != nil {
		return units.Observation{}, err
	}
	p, err := s.bus.properties(ctx, name)
	if err != nil {
		return units.Observation{}, err
	}
	o := units.Observation{
		Name: name, File: have.exists && !have.masked, Masked: have.masked || p.text("LoadState") == "masked",
		Enabled: s.files.enabled(name, have.text), DropIns: p.list("DropInPaths"),
		Load: p.text("LoadState"), Active: p.text("ActiveState"), Sub: p.text("SubState"), Result: p.text("Result"),
		NeedReload: p.yes("NeedDaemonReload"), MainPID: int(p.number("MainPID")), ControlGroup: p.text("ControlGroup"),
		Frozen:  p.text("FreezerState") == "frozen",
		Started: p.time("ExecMainStartTimestamp"), Restarts: int(p.number("NRestarts")), ExitCode: p.exitCode(),
	}
	o.Identity, o.Intact = units.Check(have.text)
	if o.MainPID != 0 {
		err = inspectMain(&o)
	}
	return o, err
}

func (p properties) time(key string) time.Time {
	micros := p.number(key)
	if micros == 0 {
		return time.Time{}
	}
	return time.UnixMicro(int64(micros))
}

// exitCode reads the codes of waitid: 1 exited, 2 killed, 3 dumped.
func (p properties) exitCode() int {
	status := int(p.number("ExecMainStatus"))
	switch p.number("ExecMainCode") {
	case 1:
		return status
	case 2, 3:
		return 128 + status
	}
	return -1
}

// List implements runtime.Units.
func (s *Supervisor) List(ctx context.Context, pattern string) ([]units.Observation, error) {
	conn, err := s.bus.get(ctx)
	if err != nil {
		return nil, err
	}
	loaded, err := conn.ListUnitsByPatternsContext(ctx, nil, []string{pattern})
	if err != nil {
		return nil, down(err)
	}
	names, err := s.files.match(pattern)
	if err != nil {
		return nil, err
	}
	for _, u := range loaded {
		names = append(names, u.Name)
	}
	slices.Sort(names)
	var all []units.Observation
	for _, name := range slices.Compact(names) {
		o, err := s.Observe(ctx, name)
		if err != nil {
			return nil, err
		}
		all = append(all, o)
	}
	return all, nil
}

func (f files) match(pattern string) (names []string, err error) {
	paths, err := filepath.Glob(filepath.Join(f.dir, pattern))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	for _, p := range paths {
		names = append(names, path.Base(p))
	}
	return names, nil
}
