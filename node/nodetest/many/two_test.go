package many_test

import (
	"slices"
	"testing"

	"github.com/ployz/ployz/cmd/ployzctl/dev"
	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/nodetest/onemachine"
)

// TestTwoClusters: each of two refuses the other's machine, with both named, before anything is written.
func TestTwoClusters(t *testing.T) {
	m := onemachine.StartWith(t, dev.Options{Machines: 2})
	m1, m2, both := m.At("m1"), m.At("m2"), []string{"m1", "m2"}
	m1.Must("init")
	m2.Must("init", "--name", "other")
	for _, at := range []*onemachine.Machine{m1, m2} {
		at.Eventually(at.Host+" to be up", func() bool {
			s := at.Status()
			return s.Gateway.State == api.StateUp && s.DNS.State == api.StateUp && s.Store.State == api.StateUp
		})
	}
	first, second := "("+m1.Status().Cluster.ID+")", "("+m2.Status().Cluster.ID+")" // both are called main
	ofFirst, ofSecond := token(m1), token(m2)
	wantUnchanged(t, m, both, func() {
		wantRefused(t, m1.Ctl("join", "--token", ofSecond), api.CodeMachineInitialised, "this machine is m1 of cluster main "+first, "the token is of cluster main "+second)
		wantRefused(t, m2.Ctl("join", "--token", ofFirst), api.CodeMachineInitialised, "this machine is other of cluster main "+second, "the token is of cluster main "+first)
		wantRefused(t, m1.Ctl("join", "--token", ofFirst), api.CodeMachineInitialised, "the token is of the same cluster")
		wantRefused(t, m1.Ctl("machine", "add", "dev://"+m.Name+"/m2"), api.CodeMachineInitialised, "it is other of cluster main "+second, "to join cluster main "+first)
	})
	for at, name := range map[*onemachine.Machine]string{m1: "m1", m2: "other"} {
		if got := namesOf(members(at)); !slices.Equal(got, []string{name}) {
			t.Errorf("%s has the members %v", name, got)
		}
	}
}
