package deploy_test

import (
	"context"
	"strings"
	"testing"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/deploy"
)

// keyedSealer writes down whom it sealed to.
type keyedSealer struct {
	plainSealer
	cannot bool
}

func (s *keyedSealer) Seal(value []byte, recipients []string) ([]byte, error) {
	return []byte(strings.Join(recipients, "+") + ":" + string(value)), nil
}

func (s *keyedSealer) Reseal(_ context.Context, sealed []byte, recipients []string, ns, name string) ([]byte, string, error) {
	if s.cannot {
		return nil, "", api.Errorf(api.CodeSecretSealed, "nobody can open it")
	}
	_, value, _ := strings.Cut(string(sealed), ":")
	again, err := s.Seal([]byte(value), recipients)
	return again, s.Fingerprint(ns, name, []byte(value)), err
}

// TestSecretsFollowTheMachines: a machine that joined after the last deploy can open what a scale has it run, what
// did not change goes on, and where nobody can open it any more, nothing is touched.
func TestSecretsFollowTheMachines(t *testing.T) {
	l, sealer := newLab(t), &keyedSealer{}
	l.kit.Sealer = sealer
	s := shop("v1")
	s.Secrets = map[string]api.Secret{"password": {Value: []byte("x")}}
	edit(&s, "app", func(s *api.Service) { s.Process.SecretEnv = map[string]string{"PASSWORD": "password"} })
	l.mustRun(t, deploy.NewDeploy(l.kit, s, nil))
	first := l.current(t, "shop")
	l.second(t)
	sealer.cannot = true
	if out := l.run(deploy.NewScale(l.kit, "shop", "app", 2)); out.Outcome != api.Refused || out.Error.Code != api.CodeSecretSealed || out.Error.Subject != "secrets.password" {
		t.Errorf("nobody can open it: %s %v", out.Outcome, out.Error)
	}
	sealer.cannot = false
	l.mustRun(t, deploy.NewScale(l.kit, "shop", "app", 2))
	second := l.current(t, "shop")
	if got := len(second.Secrets["password"].For); got != 2 || first.Slots["app-0"].Instance != second.Slots["app-0"].Instance {
		t.Errorf("sealed for %d, app-0 was %s and is %s", got, first.Slots["app-0"].Instance, second.Slots["app-0"].Instance)
	}
	if second.Secrets["password"].Fingerprint != first.Secrets["password"].Fingerprint {
		t.Error("the fingerprint changed with the machines")
	}
}
