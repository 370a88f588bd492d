package daemon

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ployz/ployz/node/api"
)

func TestLoadSettings(t *testing.T) {
	for name, c := range map[string]struct {
		text string
		says string // "" for settings that are good
	}{
		"nothing":            {"", ""},
		"everything":         {"log_level = \"debug\"\n[dns]\nupstreams = [\"10.0.0.1\", \"fd00::1\"]\n", ""},
		"not TOML":           {"log_level = \n", "line 1"},
		"a misspelt setting": {"log_levle = \"debug\"\n", `"log_levle"`},
		"a misspelt one, in": {"[dns]\nupstream = []\n", `"dns.upstream"`},
		"another type":       {"data_dir = 7\n", "data_dir"},
		"no such level":      {"log_level = \"loud\"\n", `"loud"`},
		"a name as resolver": {"[dns]\nupstreams = [\"resolver.test\"]\n", `"resolver.test"`},
		"a pool":             {"[volumes]\npool = \"zfs:tank/x\"\npool_size = \"20G\"\n", ""},
		"a pool of nothing":  {"[volumes]\npool = \"tape\"\n", `"tape"`},
		"a size of nothing":  {"[volumes]\npool_size = \"much\"\n", `"much"`},
		"a file as folder":   {"data_dir = \"/proc/self/stat\"\n", "is not a folder"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "config.toml")
			if err := os.WriteFile(path, []byte(c.text), 0o644); err != nil {
				t.Fatal(err)
			}
			_, err := LoadSettings(path)
			if c.says == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			var e *api.Error
			if !errors.As(err, &e) || e.Code != api.CodeBadSettings || e.Subject != path || !strings.Contains(e.Message, c.says) {
				t.Errorf("got %v, wanted it to say %s", err, c.says)
			}
		})
	}
	if s, err := LoadSettings(filepath.Join(t.TempDir(), "none.toml")); err != nil || s.DataDir == "" || s.ClusterCIDR == "" {
		t.Errorf("without a file: %+v, %v", s, err)
	}
}
