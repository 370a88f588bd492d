package first_test

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/nodetest/onemachine"
	"github.com/ployz/ployz/node/store"
)

// TestRepair spoils facts of a cluster that serves, each brought back another way. What serves goes on, what needs such a
// fact is refused and named, and works again once the fact is repaired.
func TestRepair(t *testing.T) {
	m := onemachine.Found(t)
	deploySite(m)
	m.File("spare", "one")
	m.Must("secret", "set", "site/spare", "spare")
	backup := filepath.Join(t.TempDir(), "backup")
	m.Must("store", "backup", backup)
	before := m.Starts("ployz-workload@*")
	for _, spoiled := range []struct {
		name  string
		key   store.Key
		needs []string
		from  []string
	}{
		{"a member, as it was last read", store.Machine(m.Status().Machine.ID), []string{"machine", "set", "m1", "--zone", "north"}, nil},
		{"a head, by its commits", store.Head("site"), []string{"service", "scale", "site/web", "1"}, nil},
		{"a secret, from a backup", store.Secret("site", "spare"), []string{"secret", "ls", "site"}, []string{"--from", backup}},
	} {
		t.Run(spoiled.name, func(t *testing.T) {
			m := m.In(t)
			m.Run("m1", onemachine.AgentInside, "spoil", string(spoiled.key))
			if r := m.Ctl("store", "verify"); r.Status == 0 || !strings.Contains(r.Out+r.Err, string(spoiled.key)) {
				t.Errorf("store verify: %+v", r)
			}
			if r := m.Ctl(spoiled.needs...); r.Status == 0 || !strings.Contains(r.Err, string(api.CodeStoreUnreadable)) {
				t.Errorf("%v: %+v", spoiled.needs, r)
			}
			wantPage(t, m, "/", "version 1")
			if after := m.Starts("ployz-workload@*"); after != before {
				t.Errorf("workloads were restarted:\n%s\n%s", before, after)
			}
			m.Must(append([]string{"store", "repair", string(spoiled.key)}, spoiled.from...)...)
			m.Must("store", "verify")
			m.Must(spoiled.needs...)
			wantPage(t, m, "/", "version 1")
		})
	}
}
