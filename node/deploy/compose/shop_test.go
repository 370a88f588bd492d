package compose_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/deploy"
	"github.com/ployz/ployz/node/deploy/compose"
)

// The example that the README deploys loads, and passes the kernel's own check.
func TestShopExample(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"compose.yaml", "shop.toml"} {
		content, err := os.ReadFile(filepath.Join("../../../examples/shop", name))
		if err != nil {
			t.Fatal(err)
		}
		write(t, dir, name, string(content))
	}
	write(t, dir, "db_password", "open sesame") // the real one is made by a script
	spec, _, err := compose.Load(t.Context(), compose.Options{Path: dir, Env: map[string]string{"SHOP_VERSION": "v2"}})
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range deploy.Check(spec) {
		t.Error(e)
	}
	if got := spec.Services["app"].Image; got != "shop-app:v2" {
		t.Errorf("the application's image is %q", got)
	}
	if job := spec.Services["migrate"].Job; job == nil || job.When != "before" {
		t.Errorf("migrate is no job: %v", job)
	}
	if got := spec.Services["web"].Ready.Deadline.D(0).String(); got != "30s" {
		t.Errorf("web has %s to become ready", got)
	}
	if got := string(spec.Secrets["db_password"].Value); got != "open sesame" {
		t.Errorf("the secret is %q", got)
	}
	if got := spec.Services["app"].DependsOn["migrate"]; got != api.Completed {
		t.Errorf("app waits for migrate to have %q", got)
	}
}
