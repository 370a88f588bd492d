package first_test

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/ployz/ployz/node/nodetest/labtest"
	"github.com/ployz/ployz/node/nodetest/onemachine"
	"github.com/ployz/ployz/node/nodetest/testenv"
)

// TestShop deploys the example: nginx, an application twice, PostgreSQL, and a job before.
func TestShop(t *testing.T) {
	testenv.Require(t, testenv.ShopImages)
	m := onemachine.Found(t)
	m.Must("deploy", "-f", filepath.Join(m.PushShop("for-a-test"), "compose.yaml"))
	ask := func(path string) labtest.Result {
		return m.Try(labtest.Client, "curl", "-sS", "--fail-with-body", "--max-time", "10", "-H", "Host: shop.test", "http://m1"+path)
	}
	if r := ask("/api/summary"); r.Status != 0 || !strings.Contains(r.Out, `"balanced":true`) {
		t.Errorf("/api/summary comes from the database: %+v", r)
	}
	if r := ask("/version"); r.Status != 0 || !strings.Contains(r.Out, "v1") {
		t.Errorf("/version: %+v", r)
	}
	before := m.Starts("ployz-workload@*")
	m.KillDaemon()
	m.AwaitDaemon()
	if r := ask("/api/summary"); r.Status != 0 {
		t.Errorf("after ployzd was killed: %+v", r)
	}
	if after := m.Starts("ployz-workload@*"); after != before {
		t.Errorf("workloads were restarted:\n%s", onemachine.Differences(before, after))
	}
	m.Must("rm", "shop")
}
