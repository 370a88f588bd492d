package main

import (
	"fmt"
	"io"
	"net/url"
	"os"
	"strings"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nkeys"
)

// load reads the configuration, refuses what must not run, and adds the secrets, which are in
// memory only. The same function serves start, reload and check, so that none of them can differ.
func load(f settings) (*server.Options, error) {
	opts, err := server.ProcessConfigFile(f.config)
	if err != nil {
		return nil, refusal{err}
	}
	opts.NoSigs = true
	if err := safe(f.role, opts); err != nil {
		return nil, refuse("%s: %w", f.config, err)
	}
	if err := addSeeds(opts, f.seeds); err != nil {
		return nil, err
	}
	if f.inner != nil {
		if err := f.inner.admit(opts); err != nil {
			return nil, err
		}
	}
	f.room.hold(opts)
	return opts, addRouteSecret(opts, f.routeSecret)
}

// safe names the first setting under which facts could be lost or strangers let in.
func safe(role string, o *server.Options) error {
	switch {
	case !o.JetStream:
		return fmt.Errorf("jetstream is off")
	case !o.SyncAlways:
		return fmt.Errorf("jetstream.sync_interval is %s; it must be always", o.SyncInterval)
	case o.NoAuthUser != "":
		return fmt.Errorf("no_auth_user is %q; nobody may come in without a key", o.NoAuthUser)
	case len(o.Nkeys) == 0:
		return fmt.Errorf("there is no nkey user, so everybody would be let in")
	case role == "edge":
		return safeEdge(o)
	}
	return safeCore(o)
}

// safeCore refuses a standalone server: its streams are taken for orphans and deleted as soon as
// it is clustered.
func safeCore(o *server.Options) error {
	switch {
	case o.Cluster.Name == "" || o.Cluster.Port == 0 || len(o.Routes) == 0:
		return fmt.Errorf("a core must be clustered, with a route to itself at least")
	case o.JetStreamDomain != "core":
		return fmt.Errorf("jetstream.domain is %q; a core's is core", o.JetStreamDomain)
	case o.LeafNode.Port == 0:
		return fmt.Errorf("it takes no leaves; without its own edge a lone core never elects a leader")
	case !o.LeafNode.IsolateLeafnodeInterest:
		return fmt.Errorf("leafnodes.isolate_leafnode_interest is off")
	}
	return nil
}

func safeEdge(o *server.Options) error {
	switch {
	case o.Cluster.Port != 0 || len(o.Routes) > 0:
		return fmt.Errorf("an edge is not clustered")
	case !strings.HasPrefix(o.JetStreamDomain, "edge-"):
		return fmt.Errorf("jetstream.domain is %q; an edge's is edge-MACHINE", o.JetStreamDomain)
	case len(o.LeafNode.Remotes) == 0:
		return fmt.Errorf("it has no leaf remote")
	}
	return nil
}

// addSeeds gives every leaf remote the seed of its account. A seed lives in a file that only
// root reads, never in the configuration, which is shown and compared.
func addSeeds(o *server.Options, seeds seedFlags) error {
	for _, remote := range o.LeafNode.Remotes {
		path, ok := seeds[remote.LocalAccount]
		if !ok {
			return refuse("no --seed for the leaf remote of account %s", remote.LocalAccount)
		}
		seed, err := readSeed(path)
		if err != nil {
			return err
		}
		remote.Nkey = seed
	}
	return nil
}

func readSeed(path string) (string, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return "", refusal{err}
	}
	seed := strings.TrimSpace(string(text))
	if prefix, _, err := nkeys.DecodeSeed([]byte(seed)); err != nil || prefix != nkeys.PrefixByteUser {
		return "", refuse("%s does not hold a user's seed", path)
	}
	return seed, nil
}

// addRouteSecret makes the voters' shared secret both the one demanded and the one shown.
func addRouteSecret(o *server.Options, path string) error {
	if o.Cluster.Port == 0 {
		return nil
	}
	if path == "" {
		return refuse("a core needs --route-secret")
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return refusal{err}
	}
	secret := strings.TrimSpace(string(text))
	if len(secret) < 16 {
		return refuse("the secret in %s has %d bytes; at least 16", path, len(secret))
	}
	o.Cluster.Username, o.Cluster.Password = "voter", secret
	for _, r := range o.Routes {
		r.User = url.UserPassword("voter", secret)
	}
	return nil
}

func check(f settings, stdout io.Writer) error {
	opts, err := load(f)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(stdout, opts.ConfigDigest())
	return err
}
