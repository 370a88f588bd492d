package deploy

import (
	"testing"

	"github.com/ployz/ployz/node/runtime"
)

func TestAuthForTheDefaultRegistry(t *testing.T) {
	auths := map[string]runtime.RegistryAuth{"docker.io": {Username: "hub"}, "r.example:5000": {Username: "own"}, "localhost": {Username: "local"}}
	for reference, want := range map[string]string{
		"nginx":                    "hub",
		"me/app:v1":                "hub",
		"docker.io/library/nginx":  "hub",
		"r.example:5000/app":       "own",
		"localhost/app@sha256:abc": "local",
		"other.example/app":        "",
	} {
		got := ""
		if auth := authFor(reference, auths); auth != nil {
			got = auth.Username
		}
		if got != want {
			t.Errorf("%s: %q, want %q", reference, got, want)
		}
	}
}
