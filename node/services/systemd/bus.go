package systemd

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/coreos/go-systemd/v22/dbus"
	godbus "github.com/godbus/dbus/v5"

	"github.com/ployz/ployz/node/api"
)

// bus is one connection to systemd, made when first needed and again when it was lost.
type bus struct {
	mu   sync.Mutex
	conn *dbus.Conn // guarded by mu
}

func (b *bus) get(ctx context.Context) (*dbus.Conn, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.conn != nil && b.conn.Connected() {
		return b.conn, nil
	}
	if b.conn != nil {
		b.conn.Close()
		b.conn = nil
	}
	// The connection outlives the call that made it, so it must not die with its context.
	detached := context.WithoutCancel(ctx)
	conn, err := dbus.NewSystemdConnectionContext(detached)
	if err != nil {
		var viaBus error
		if conn, viaBus = dbus.NewSystemConnectionContext(detached); viaBus != nil {
			return nil, down(errors.Join(err, viaBus))
		}
	}
	b.conn = conn
	return conn, nil
}

func (b *bus) close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.conn != nil {
		b.conn.Close()
		b.conn = nil
	}
}

func down(err error) error {
	return api.Errorf(api.CodeSupervisorDown, "systemd does not answer: %w", err).Again().WithHint("systemctl is-system-running")
}

// answered says whether systemd itself gave the error, and under which name; anything else means that
// there was no answer.
func answered(err error) (name string, ok bool) {
	var e godbus.Error
	if !errors.As(err, &e) {
		return "", false
	}
	switch e.Name {
	case "org.freedesktop.DBus.Error.NoReply", "org.freedesktop.DBus.Error.Disconnected",
		"org.freedesktop.DBus.Error.ServiceUnknown", "org.freedesktop.DBus.Error.NoServer", "org.freedesktop.DBus.Error.Timeout":
		return "", false
	}
	return e.Name, true
}

// The names of systemd's own errors that decide something here.
const (
	errNoSuchUnit = "org.freedesktop.systemd1.NoSuchUnit"
	errMasked     = "org.freedesktop.systemd1.UnitMasked"
)

// reload makes systemd read its unit files again.
func (b *bus) reload(ctx context.Context) error {
	conn, err := b.get(ctx)
	if err != nil {
		return err
	}
	if err := conn.ReloadContext(ctx); err != nil {
		return down(fmt.Errorf("daemon-reload: %w", err))
	}
	return nil
}

// properties returns everything that systemd knows of a unit, loading it if it is not loaded.
func (b *bus) properties(ctx context.Context, name string) (properties, error) {
	conn, err := b.get(ctx)
	if err != nil {
		return nil, err
	}
	p, err := conn.GetAllPropertiesContext(ctx, name)
	if err != nil {
		return nil, down(fmt.Errorf("properties of %s: %w", name, err))
	}
	return p, nil
}

// properties are a unit's, as the bus gives them. A missing one reads as zero.
type properties map[string]any

func (p properties) text(key string) string { s, _ := p[key].(string); return s }

func (p properties) list(key string) []string { s, _ := p[key].([]string); return s }

func (p properties) yes(key string) bool { b, _ := p[key].(bool); return b }

func (p properties) number(key string) uint64 {
	switch v := p[key].(type) {
	case uint32:
		return uint64(v)
	case uint64:
		return v
	case int32:
		return uint64(v)
	}
	return 0
}
