package main

import (
	"fmt"
	"os"
	"time"

	"github.com/BurntSushi/toml"
)

// config is the configuration file. Everything has a default but the database's password, which
// stands in a file of its own.
type config struct {
	// Title stands on top of the page.
	Title string
	// Listen is the HTTP address, host:port; an empty host means all addresses.
	Listen string
	// Linger is how long a stopping instance still takes new connections while it says "not
	// ready". It should outlast what a proxy in front remembers of DNS.
	Linger duration
	// Drain is how long open requests get to finish after that.
	Drain    duration
	Database databaseConfig
}

type databaseConfig struct {
	Host         string
	Port         uint16
	User         string
	Name         string
	PasswordFile string `toml:"password_file"`
	// MaxConnections bounds what one instance takes from the database's own limit.
	MaxConnections int `toml:"max_connections"`
}

// duration reads "1.5s" from TOML.
type duration struct{ time.Duration }

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *duration) UnmarshalText(text []byte) (err error) {
	d.Duration, err = time.ParseDuration(string(text))
	return err
}

func defaultConfig() config {
	return config{
		Title:  "Shop",
		Listen: ":8080",
		Linger: duration{1500 * time.Millisecond},
		Drain:  duration{20 * time.Second},
		Database: databaseConfig{
			Host: "db", Port: 5432, User: "shop", Name: "shop",
			PasswordFile: "/run/secrets/db_password", MaxConnections: 10,
		},
	}
}

// loadConfig reads the file over the defaults. A key it does not know is an error: it is a
// typing mistake, and the default would be used in silence.
func loadConfig(file string) (config, error) {
	cfg := defaultConfig()
	meta, err := toml.DecodeFile(file, &cfg)
	if os.IsNotExist(err) {
		return cfg, fmt.Errorf("no configuration file: %w (name another with --config)", err)
	}
	if err != nil {
		return cfg, fmt.Errorf("configuration %s: %w", file, err)
	}
	if unknown := meta.Undecoded(); len(unknown) > 0 {
		return cfg, fmt.Errorf("configuration %s: unknown key %q", file, unknown[0].String())
	}
	return cfg, nil
}
