package systemd

import (
	"context"
	"errors"
	"os/exec"
	"strings"
	"time"

	"github.com/coreos/go-systemd/v22/dbus"
	godbus "github.com/godbus/dbus/v5"

	"github.com/ployz/ployz/node/api"
)

// Freeze implements runtime.Freezer. Before anything stands still systemd has a timer of its own that lets it go on:
// a caller that dies in the moment between leaves nothing frozen.
func (s *Supervisor) Freeze(ctx context.Context, name string, atMost time.Duration) error {
	if err := s.Thaw(ctx, name); err != nil { // one that a caller before us left frozen is never without a timer
		return err
	}
	if err := s.armThaw(ctx, name, atMost); err != nil {
		return err
	}
	conn, err := s.bus.get(ctx)
	if err == nil {
		err = conn.FreezeUnit(ctx, name)
	}
	if err == nil {
		return nil
	}
	err = api.Errorf(api.CodeServiceFailed, "systemd cannot freeze it: %w", err).About(name)
	// It may have stopped half way. If this fails too, the timer is still there.
	return errors.Join(err, s.Thaw(context.WithoutCancel(ctx), name))
}

// Thaw implements runtime.Freezer. The timer goes last.
func (s *Supervisor) Thaw(ctx context.Context, name string) error {
	conn, err := s.bus.get(ctx)
	if err != nil {
		return err
	}
	err = conn.ThawUnit(ctx, name)
	if word, ok := answered(err); err != nil && !(ok && nothingToThaw[word]) {
		return api.Errorf(api.CodeServiceFailed, "systemd cannot thaw it: %w", err).About(name)
	}
	return s.Stop(ctx, thawTimer(name)+".timer")
}

// nothingToThaw are systemd's errors about a unit that is not there or does not run.
var nothingToThaw = map[string]bool{
	errNoSuchUnit: true, "org.freedesktop.systemd1.UnitInactive": true, "org.freedesktop.systemd1.UnitMasked": true,
}

// thawTimer is the name of the two transient units that thaw a unit, without what follows the dot.
func thawTimer(name string) string {
	return "ployz-thaw-" + strings.ReplaceAll(strings.TrimSuffix(name, ".service"), "@", "-")
}

// armThaw starts a timer that thaws a unit after a while. Neither it nor what it starts outlives that.
func (s *Supervisor) armThaw(ctx context.Context, name string, after time.Duration) error {
	systemctl, err := exec.LookPath("systemctl")
	if err != nil {
		return api.Errorf(api.CodeServiceFailed, "nothing could thaw it: %w", err).About(name)
	}
	type timer struct {
		Base  string
		Usecs uint64
	}
	property := func(name string, value any) dbus.Property {
		return dbus.Property{Name: name, Value: godbus.MakeVariant(value)}
	}
	description := property("Description", "Thaw "+name)
	collect := property("CollectMode", "inactive-or-failed")
	arm := func(c *dbus.Conn, ctx context.Context, timerName, mode string, done chan<- string) (int, error) {
		return c.StartTransientUnitAux(ctx, timerName, mode, []dbus.Property{
			description, collect, property("AccuracyUSec", uint64(time.Millisecond.Microseconds())), property("RemainAfterElapse", false),
			property("TimersMonotonic", []timer{{"OnActiveSec", uint64(after.Microseconds())}}),
		}, []dbus.PropertyCollection{{Name: thawTimer(name) + ".service", Properties: []dbus.Property{
			description, collect, dbus.PropType("oneshot"), dbus.PropExecStart([]string{systemctl, "thaw", name}, true),
		}}}, done)
	}
	result, refused, err := s.job(ctx, thawTimer(name)+".timer", arm)
	if err == nil && (refused != nil || result != "done") {
		err = api.Errorf(api.CodeServiceFailed, "systemd makes no timer that would thaw it: %s %w", result, refused).About(name)
	}
	return err
}
