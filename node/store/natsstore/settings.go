package natsstore

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/store/natsstore/natsconf"
)

// CheckSettings proves that both servers run with the settings under which an acknowledged fact
// stays: synced writes, a clustered core, streams that cannot be purged and do replicate. The
// daemon refuses to work on a store that fails it. It needs SystemSeed and EdgeSystemSeed for
// the servers they belong to; a server without a URL is not looked at.
//
// Errors: store.unsafe-settings with one detail per setting (which, seen, wanted),
// store.unavailable.
func (s *Store) CheckSettings(ctx context.Context) error {
	var found []*api.Error
	for _, part := range []struct {
		l     *link
		urls  []string
		seed  string
		core  bool
		wants []map[string]any
	}{
		{s.core, s.cores(), s.cfg.SystemSeed, true, []map[string]any{
			factsConfig(s.cfg.Generation, 0, StreamSize{}), ledgerConfig(s.cfg.Generation, 0, StreamSize{}),
		}},
		{s.edge, []string{s.cfg.EdgeURL}, s.cfg.EdgeSystemSeed, false, []map[string]any{
			mirrorConfig(natsconf.FactsStream(s.cfg.Generation), s.cfg.Machine, 1),
		}},
	} {
		if part.l == nil {
			continue
		}
		report, err := s.askServer(ctx, part.l.name, part.urls, part.seed)
		if err != nil {
			return err
		}
		found = append(found, judgeServer(report, part.core)...)
		for _, want := range part.wants {
			if part.core {
				want = wanted(want, report)
			}
			wrong, err := s.checkStream(ctx, part.l, want)
			if err != nil {
				return err
			}
			found = append(found, wrong...)
		}
	}
	return unsafeSettings(found)
}

// wanted drops the size, which an operator may choose, and sets the replicas: as many as voters.
func wanted(config map[string]any, r serverReport) map[string]any {
	delete(config, "max_bytes")
	delete(config, "num_replicas")
	if r.Data.Meta != nil {
		config["num_replicas"] = r.Data.Meta.Size
	}
	return config
}

func unsafeSettings(found []*api.Error) error {
	if len(found) == 0 {
		return nil
	}
	e := *found[0]
	e.Details = found
	return &e
}

func unsafe(where, setting string, seen, want any) *api.Error {
	e := api.Errorf(api.CodeStoreSettings, "%s is %v, it must be %v", setting, seen, want).About(where)
	return e.WithHint("ployzctl doctor shows the rendered configuration beside what runs")
}

// serverReport is the part of a server's JSZ that is looked at.
type serverReport struct {
	Server struct {
		Name string `json:"name"`
	} `json:"server"`
	Data struct {
		Config struct {
			SyncAlways   bool   `json:"sync_always"`
			SyncInterval int64  `json:"sync_interval"`
			Domain       string `json:"domain"`
		} `json:"config"`
		Meta *struct {
			Leader string `json:"leader"`
			Size   int    `json:"cluster_size"`
		} `json:"meta_cluster"`
	} `json:"data"`
}

// askServer asks the server itself, in its system account: what runs, not what is on disk.
func (s *Store) askServer(ctx context.Context, name string, urls []string, seed string) (serverReport, error) {
	var r serverReport
	l, err := dial(name, urls, seed, s.cfg.inbox(), s.cfg.Timeout, corePing)
	if err != nil {
		return r, err
	}
	defer l.nc.Close()
	if err := l.await(ctx); err != nil {
		return r, err
	}
	if err := l.call(ctx, "$SYS.REQ.SERVER."+l.nc.ConnectedServerId()+".JSZ", nil, &r); err != nil {
		return r, unavailable("the "+name+"'s settings", err)
	}
	return r, nil
}

func judgeServer(r serverReport, core bool) []*api.Error {
	var out []*api.Error
	if !r.Data.Config.SyncAlways {
		out = append(out, unsafe(r.Server.Name, "jetstream.sync_interval", syncSeen(r), "always"))
	}
	switch {
	case core && r.Data.Meta == nil:
		out = append(out, unsafe(r.Server.Name, "cluster", "absent (standalone)", "clustered, or its streams are deleted once it is"))
	case core && r.Data.Config.Domain != natsconf.CoreDomain:
		out = append(out, unsafe(r.Server.Name, "jetstream.domain", r.Data.Config.Domain, natsconf.CoreDomain))
	case !core && !strings.HasPrefix(r.Data.Config.Domain, "edge-"):
		out = append(out, unsafe(r.Server.Name, "jetstream.domain", r.Data.Config.Domain, "edge-MACHINE"))
	}
	return out
}

func syncSeen(r serverReport) string {
	return fmt.Sprintf("%ds", r.Data.Config.SyncInterval/1e9)
}

func (s *Store) checkStream(ctx context.Context, l *link, want map[string]any) ([]*api.Error, error) {
	name := fmt.Sprint(want["name"])
	info, err := s.streamState(ctx, l, name)
	if isAPIError(err, errStreamNotFound) {
		return []*api.Error{unsafe(l.name, "stream "+name, "absent", "there")}, nil
	}
	if err != nil {
		return nil, unavailable("stream "+name, err)
	}
	return judgeStream(l.name+" "+name, info.Config, want), nil
}

func (s *Store) compareStream(ctx context.Context, l *link, config map[string]any) error {
	wrong, err := s.checkStream(ctx, l, config)
	if err != nil {
		return err
	}
	return unsafeSettings(wrong)
}

// judgeStream compares every wanted setting; others are the server's business, but for the one
// that gives up syncing.
func judgeStream(where string, seen, want map[string]any) []*api.Error {
	var out []*api.Error
	for _, k := range slices.Sorted(maps.Keys(want)) {
		w, s := normal(want[k]), seen[k]
		if !within(s, w) {
			out = append(out, unsafe(where, k, shown(s), shown(w)))
		}
	}
	if mode := seen["persist_mode"]; mode != nil && mode != "" && mode != "default" {
		out = append(out, unsafe(where, "persist_mode", mode, "default"))
	}
	return out
}

// within says whether seen holds what is wanted; a map may hold more. An absent setting is its zero.
func within(seen, want any) bool {
	switch w := want.(type) {
	case map[string]any:
		s, _ := seen.(map[string]any)
		for k, v := range w {
			if !within(s[k], v) {
				return false
			}
		}
		return true
	case bool:
		s, _ := seen.(bool)
		return s == w
	case float64:
		s, _ := seen.(float64)
		return s == w
	}
	return shown(seen) == shown(want)
}

func shown(v any) string {
	text, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprint(v)
	}
	return string(text)
}

// normal gives a value the types that decoding JSON gives.
func normal(v any) any {
	text, err := json.Marshal(v)
	if err != nil {
		return v
	}
	var out any
	if err := json.Unmarshal(text, &out); err != nil {
		return v
	}
	return out
}
