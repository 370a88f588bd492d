package testenv

import (
	"os"
	"path/filepath"
	"slices"
)

// PostgreSQLBin returns the folder of the newest PostgreSQL server's programs (initdb, postgres),
// which Debian keeps out of PATH, or "".
func PostgreSQLBin() string {
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if err != nil || len(found) == 0 {
		return ""
	}
	return filepath.Dir(slices.Max(found))
}

func missingPostgreSQL() string {
	if PostgreSQLBin() == "" {
		return "no PostgreSQL server (Debian: apt install postgresql)"
	}
	return ""
}

// ShopImage returns the OCI layout of one image of the example application, such as "shop-web".
func ShopImage(name string) string { return repoFile(filepath.Join("dist", "images", name)) }

func missingShopImages() string {
	for _, name := range []string{"shop-web", "shop-app", "shop-db"} {
		if _, err := os.Stat(filepath.Join(ShopImage(name), "index.json")); err != nil {
			return "no image " + name + ": run examples/build-images.sh"
		}
	}
	return ""
}
