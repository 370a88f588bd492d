package deploy_test

import (
	"strings"
	"testing"
	"time"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/deploy"
)

// spec is a valid spec of one service, changed by the case.
func spec(change func(s *api.Service)) api.Spec {
	web := api.Service{Image: "web:v1"}
	change(&web)
	return api.Spec{
		Namespace: "shop",
		Services: map[string]api.Service{
			"web": web, "db": {Image: "db:v1"},
			"early": {Image: "app:v1", Job: &api.Job{When: "before"}},
			"late":  {Image: "app:v1", Job: &api.Job{When: "after"}},
			"masks": {Image: "app:v1", Job: &api.Job{When: "branch"}, DependsOn: on1("db", api.Ready)},
		},
		Volumes: map[string]api.Volume{"data": {}},
		Secrets: map[string]api.Secret{"password": {Value: []byte("x")}},
		Configs: map[string]api.Config{"settings": {Content: []byte("x")}},
	}
}

func TestCheckAccepts(t *testing.T) {
	for name, s := range map[string]api.Spec{
		"the shop": shop("v1"),
		"everything": spec(func(s *api.Service) {
			s.Placement.Replicas = 1000
			s.Restart.Policy, s.Update.Order = "on-failure", "stop-first"
			s.Resources.IOWeight = 10000
			s.Files = []api.File{{Secret: "password", Target: "/a"}, {Config: "settings", Target: "/b"}}
			s.Process.SecretEnv = map[string]string{"PASSWORD": "password"}
			s.Ports = []api.Port{{Published: 8081, Target: 80, Protocol: "udp"}}
			s.Routes = []api.Route{{Host: "*.shop.test", Path: "/a", Port: 80, Protocol: "h2c"}, {TCP: 5432, Port: 5432, ProxyProtocol: "v2"}}
			s.Ready = &api.Probe{HTTP: &api.HTTPProbe{Path: "/ready", Port: 80}}
			s.DependsOn = map[string]api.Condition{"db": api.Started, "early": api.Completed}
			writesAnd(s, api.Quiesce{Mode: "none", Before: []string{"a"}, Timeout: api.Duration(time.Second)})
			s.Update.Order = "stop-first"
		}),
	} {
		if errs := deploy.Check(s); len(errs) != 0 {
			t.Errorf("%s: %v", name, errs)
		}
	}
}

// refusals are everything that Check says, each with the place that it must name.
var refusals = []struct {
	place, message string
	change         func(s *api.Service)
}{
	{"services.web.image", "is missing", func(s *api.Service) { s.Image = "" }},
	{"services.web.placement.replicas", "-1 is not between 0 and 1000", func(s *api.Service) { s.Placement.Replicas = -1 }},
	{"services.web.placement.replicas", "1001 is not between 0 and 1000", func(s *api.Service) { s.Placement.Replicas = 1001 }},
	{"services.web.dependsOn.cache", `there is no service "cache"`, func(s *api.Service) { s.DependsOn = on1("cache", api.Ready) }},
	{"services.web.dependsOn.db", "db is no job, so it never completes", func(s *api.Service) { s.DependsOn = on1("db", api.Completed) }},
	{"services.web.dependsOn.late", "late runs after the commit", func(s *api.Service) { s.DependsOn = on1("late", api.Completed) }},
	{"services.web.dependsOn.db", `"healthy" is none of started, ready, completed`, func(s *api.Service) { s.DependsOn = on1("db", "healthy") }},
	{"services.web", "web → web", func(s *api.Service) { s.DependsOn = on1("web", api.Ready) }},
	{"services.web.restart.policy", `"never" is none of`, func(s *api.Service) { s.Restart.Policy = "never" }},
	{"services.web.update.order", `"both" is none of`, func(s *api.Service) { s.Update.Order = "both" }},
	{"services.web.job.when", `"" is none of before, after`, func(s *api.Service) { s.Job = &api.Job{} }},
	{"services.web.job", "neither routes nor ports", func(s *api.Service) {
		s.Job = &api.Job{When: "before"}
		s.Routes = []api.Route{{Host: "a.test", Port: 80}}
	}},
	{"services.web.job.when", `"later" is none of before, after, branch`, func(s *api.Service) { s.Job = &api.Job{When: "later"} }},
	{"services.web.placement", "a job runs once", func(s *api.Service) {
		s.Job, s.Placement.Replicas = &api.Job{When: "branch"}, 2
	}},
	{"services.web.dependsOn.masks", "runs in new branches only", func(s *api.Service) { s.DependsOn = on1("masks", api.Completed) }},
	{"services.web.quiesce.mode", `"wait" is none of , freeze, stop, none`, func(s *api.Service) { writesAnd(s, api.Quiesce{Mode: "wait"}) }},
	{"services.web.quiesce", "a job has ended", func(s *api.Service) {
		writesAnd(s, api.Quiesce{Mode: "freeze"})
		s.Job = &api.Job{When: "before"}
	}},
	{"services.web.quiesce", "writes no volume", func(s *api.Service) {
		writesAnd(s, api.Quiesce{Mode: "freeze"})
		s.Mounts[0].ReadOnly = true
	}},
	{"services.web.quiesce", "mode stop stops it", func(s *api.Service) { writesAnd(s, api.Quiesce{Mode: "stop", After: []string{"a"}}) }},
	{"services.web.quiesce.timeout", "-1s is no time", func(s *api.Service) { writesAnd(s, api.Quiesce{Timeout: api.Duration(-time.Second)}) }},
	{"services.web.resources.ioWeight", "10001 is not between 1 and 10000", func(s *api.Service) { s.Resources.IOWeight = 10001 }},
	{"services.web.files[0]", "exactly one of secret and config", func(s *api.Service) { s.Files = []api.File{{Target: "/a"}} }},
	{"services.web.files[0]", "exactly one of secret and config", func(s *api.Service) {
		s.Files = []api.File{{Secret: "password", Config: "settings", Target: "/a"}}
	}},
	{"services.web.files[0]", `the spec has no secret "key"`, func(s *api.Service) { s.Files = []api.File{{Secret: "key", Target: "/a"}} }},
	{"services.web.files[0]", `the spec has no config "file"`, func(s *api.Service) { s.Files = []api.File{{Config: "file", Target: "/a"}} }},
	{"services.web.files[0].target", `"a" is not an absolute path`, func(s *api.Service) { s.Files = []api.File{{Secret: "password", Target: "a"}} }},
	{"services.web.process.secretEnv.KEY", `the spec has no secret "key"`, func(s *api.Service) { s.Process.SecretEnv = map[string]string{"KEY": "key"} }},
	{"services.web.ports[0]", "published port 0 and target port 80", func(s *api.Service) { s.Ports = []api.Port{{Target: 80, Protocol: "tcp"}} }},
	{"services.web.ports[0].protocol", `"sctp" is none of tcp, udp`, func(s *api.Service) {
		s.Ports = []api.Port{{Published: 1, Target: 80, Protocol: "sctp"}}
	}},
	{"services.web.routes[0]", "exactly one of host and tcp", func(s *api.Service) { s.Routes = []api.Route{{Port: 80}} }},
	{"services.web.routes[0]", "exactly one of host and tcp", func(s *api.Service) { s.Routes = []api.Route{{Host: "a.test", TCP: 1, Port: 80}} }},
	{"services.web.routes[0].host", `"A.test" is not a hostname in lower case`, func(s *api.Service) { s.Routes = []api.Route{{Host: "A.test", Port: 80}} }},
	{"services.web.routes[0].host", `"a..test" is not a hostname`, func(s *api.Service) { s.Routes = []api.Route{{Host: "a..test", Port: 80}} }},
	{"services.web.routes[0].host", `"b.*.test" is not a hostname`, func(s *api.Service) { s.Routes = []api.Route{{Host: "b.*.test", Port: 80}} }},
	{"services.web.routes[0].path", `"a" does not begin with /`, func(s *api.Service) { s.Routes = []api.Route{{Host: "a.test", Path: "a", Port: 80}} }},
	{"services.web.routes[0].port", "the service's port is missing", func(s *api.Service) { s.Routes = []api.Route{{Host: "a.test"}} }},
	{"services.web.routes[0].protocol", `"grpc" is none of`, func(s *api.Service) { s.Routes = []api.Route{{Host: "a.test", Port: 80, Protocol: "grpc"}} }},
	{"services.web.routes[0].proxyProtocol", `"v3" is none of`, func(s *api.Service) { s.Routes = []api.Route{{TCP: 1, Port: 80, ProxyProtocol: "v3"}} }},
	{"services.web.ready", "exactly one of http, tcp and exec", func(s *api.Service) { s.Ready = &api.Probe{} }},
	{"services.web.ready", "exactly one of http, tcp and exec", func(s *api.Service) {
		s.Ready = &api.Probe{TCP: &api.TCPProbe{Port: 1}, Exec: []string{"true"}}
	}},
	{"services.web.ready.http", "needs a port and a path", func(s *api.Service) { s.Ready = &api.Probe{HTTP: &api.HTTPProbe{Path: "/"}} }},
	{"services.web.ready.http", "needs a port and a path", func(s *api.Service) { s.Ready = &api.Probe{HTTP: &api.HTTPProbe{Port: 80, Path: "x"}} }},
	{"services.web.ready.tcp.port", "is missing", func(s *api.Service) { s.Ready = &api.Probe{TCP: &api.TCPProbe{}} }},
	{"services.web", "port 1/tcp is also claimed", func(s *api.Service) {
		s.Ports = []api.Port{{Published: 1, Target: 1, Protocol: "tcp"}, {Published: 1, Target: 2, Protocol: "tcp"}}
	}},
	{"services.web", "route a.test/ is also claimed", func(s *api.Service) {
		s.Routes = []api.Route{{Host: "a.test", Port: 1}, {Host: "a.test", Path: "/", Port: 2}}
	}},
	{"services.web", "gateway port 7 is also claimed", func(s *api.Service) { s.Routes = []api.Route{{TCP: 7, Port: 1}, {TCP: 7, Port: 2}} }},
}

func writesAnd(s *api.Service, q api.Quiesce) {
	s.Mounts, s.Quiesce = []api.Mount{{Volume: "data", Target: "/data"}}, &q
}

func on1(service string, c api.Condition) map[string]api.Condition {
	return map[string]api.Condition{service: c}
}

func TestCheckRefuses(t *testing.T) {
	for _, c := range refusals {
		expectOne(t, deploy.Check(spec(c.change)), c.place, c.message)
	}
	whole := spec(func(*api.Service) {})
	whole.Namespace = "Shop"
	expectOne(t, deploy.Check(whole), "namespace", `"Shop": lower-case letters`)
	expectOne(t, deploy.Check(api.Spec{Namespace: "shop"}), "services", "there is none")
	whole = spec(func(*api.Service) {})
	whole.Services["a-service-name-far-too-long"] = api.Service{Image: "x"}
	expectOne(t, deploy.Check(whole), "services.a-service-name-far-too-long", "cannot be a service name")
	for _, ns := range []string{"", "-a", "a-", "1a", "a_b", "a.b", strings.Repeat("a", 25)} {
		if deploy.CheckNamespace(ns) == nil {
			t.Errorf("%q passes as a namespace", ns)
		}
	}
}

func expectOne(t *testing.T, errs []*api.Error, place, message string) {
	t.Helper()
	for _, e := range errs {
		if e.Subject == place && strings.Contains(e.Message, message) {
			if e.Code != api.CodeSpecInvalid && e.Code != api.CodeDependencyCycle {
				t.Errorf("%s has the code %s", place, e.Code)
			}
			if len(errs) > 1 {
				t.Errorf("%s: more than was wrong: %v", place, errs)
			}
			return
		}
	}
	t.Errorf("want %s: %s, got %v", place, message, errs)
}
