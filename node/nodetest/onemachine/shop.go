package onemachine

import (
	"os"
	"os/exec"
	"path/filepath"

	"github.com/ployz/ployz/node/nodetest/testenv"
)

// PushShop has the machine know the images of the example, and returns a copy of the example's folder with this password
// for its database: the checkout's may not be there, and is not a test's to show.
func (m *Machine) PushShop(password string) (folder string) {
	m.t.Helper()
	for _, name := range []string{"shop-web", "shop-app", "shop-db"} {
		m.Must("image", "push", testenv.ShopImage(name))
	}
	folder = filepath.Join(m.t.TempDir(), "shop")
	if out, err := exec.Command("cp", "-R", filepath.Join(testenv.Repo(), "examples/shop"), folder).CombinedOutput(); err != nil {
		m.t.Fatalf("%v\n%s", err, out)
	}
	if err := os.WriteFile(filepath.Join(folder, "db_password"), []byte(password), 0o600); err != nil {
		m.t.Fatal(err)
	}
	return folder
}
