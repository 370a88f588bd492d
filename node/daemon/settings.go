package daemon

import (
	"errors"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"

	"github.com/BurntSushi/toml"
	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/storage"
)

// Settings is /etc/ployz/config.toml. Every field has a default; an unknown key is refused, since
// a misspelt setting that does nothing is worse than a daemon that does not start.
type Settings struct {
	ClusterCIDR string `toml:"cluster_cidr"`
	DataDir     string `toml:"data_dir"`
	LogLevel    string `toml:"log_level"`
	DNS         struct {
		Upstreams []string `toml:"upstreams"`
	} `toml:"dns"`
	Images struct {
		InsecureRegistries []string `toml:"insecure_registries"`
	} `toml:"images"`
	// Volumes say where the machine's volumes are, for when it gets its pool; a pool that it has is kept.
	Volumes struct {
		// Pool is "loop", "btrfs:FOLDER", "zfs:DATASET" or "none"; "" is "loop" at init and join where the machine has
		// what that takes.
		Pool string `toml:"pool"`
		// PoolSize is the size of a loop pool's file, such as "20G"; "" is half of what is free.
		PoolSize string `toml:"pool_size"`
	} `toml:"volumes"`
	Mesh struct {
		Port      uint16           `toml:"port"`
		Endpoints []netip.AddrPort `toml:"endpoints"`
	} `toml:"mesh"`
}

// SettingsPath is where the settings are.
const SettingsPath = "/etc/ployz/config.toml"

// LoadSettings reads the file; a missing one is all defaults. Errors: daemon.bad-settings, with the place.
func LoadSettings(path string) (Settings, error) {
	s := Settings{ClusterCIDR: "10.101.0.0/16", DataDir: "/var/lib/ployz", LogLevel: "info"}
	s.Mesh.Port = 51820
	meta, err := toml.DecodeFile(path, &s)
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	}
	if err != nil {
		return s, badSettings(path, "%v", err)
	}
	if unknown := meta.Undecoded(); len(unknown) > 0 {
		return s, badSettings(path, "there is no setting %q", unknown[0].String())
	}
	return s, s.check(path)
}

func (s Settings) check(path string) error {
	if _, err := s.Level(); err != nil {
		return badSettings(path, "log_level %q is none of debug, info, warn, error", s.LogLevel)
	}
	for _, u := range s.DNS.Upstreams {
		if _, err := netip.ParseAddr(u); err != nil {
			return badSettings(path, "dns.upstreams: %q is not an address", u)
		}
	}
	if s.Mesh.Port == 0 {
		return badSettings(path, "mesh.port must be a UDP port")
	}
	if s.Volumes.Pool != "" {
		if _, err := storage.ParseSource(s.Volumes.Pool); err != nil {
			return badSettings(path, "volumes.pool: %v", err)
		}
	}
	if _, err := storage.ParseSize(s.Volumes.PoolSize); err != nil {
		return badSettings(path, "volumes.pool_size: %v", err)
	}
	if info, err := os.Stat(s.DataDir); err == nil && !info.IsDir() {
		return badSettings(path, "data_dir %q is not a folder", s.DataDir)
	}
	return nil
}

// Level is the log level.
func (s Settings) Level() (slog.Level, error) {
	var level slog.Level
	err := level.UnmarshalText([]byte(s.LogLevel))
	return level, err
}

func badSettings(path, format string, args ...any) error {
	return api.Errorf(api.CodeBadSettings, format, args...).About(path).WithHint("mend it, then: systemctl restart ployzd")
}
