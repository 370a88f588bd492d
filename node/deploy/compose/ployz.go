package compose

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/compose-spec/compose-go/v2/types"

	"github.com/ployz/ployz/node/api"
)

// ployz reads what stands under x-ployz. Its keys were checked against the table already; here
// are the values, which after interpolation may be text where a number is meant.
func (m *mapper) ployz(at string, c types.ServiceConfig, raw any, s *api.Service) {
	x := m.object(at, raw)
	for i, r := range m.list(at+".routes", x["routes"]) {
		s.Routes = append(s.Routes, m.route(item(at+".routes", i), r))
	}
	if ready, ok := x["ready"]; ok {
		if c.HealthCheck != nil && s.Ready != nil {
			m.note("services."+c.Name+".healthcheck", "x-ployz.ready outranks it")
		}
		s.Ready = m.ready(at+".ready", m.object(at+".ready", ready))
	}
	if job, ok := x["job"]; ok {
		s.Job = m.job(at+".job", job)
	}
	for _, name := range m.texts(at+".needs", x["needs"]) {
		m.need(at+".needs", name, s)
	}
	s.Exports = m.texts(at+".exports", x["exports"])
	m.ployzPlacement(at+".placement", m.object(at+".placement", x["placement"]), s)
	update := m.object(at+".update", x["update"])
	if order := m.order(at+".update.order", m.text(at+".update.order", update["order"])); order != "" {
		if s.Update.Order != "" && s.Update.Order != order {
			m.bad(at+".update.order", "is %s, but deploy.update_config.order is %s", order, s.Update.Order).WithHint("take one of them away")
		}
		s.Update.Order = order
	}
	s.Update.Drain = m.length(at+".update.drain", update["drain"])
	m.secretEnv(at+".secret_env", x["secret_env"], s)
	if quiesce, ok := x["quiesce"]; ok {
		s.Quiesce = m.quiesce(at+".quiesce", m.object(at+".quiesce", quiesce))
	}
}

func (m *mapper) route(at string, raw any) api.Route {
	x := m.object(at, raw)
	r := api.Route{
		Host: m.text(at+".host", x["host"]), Path: m.text(at+".path", x["path"]),
		TCP: m.port(at+".tcp", x["tcp"]), Port: m.port(at+".port", x["port"]),
		StripPrefix: m.flag(at+".strip_prefix", x["strip_prefix"]), RedirectHTTPS: m.flag(at+".redirect_https", x["redirect_https"]),
		Protocol: m.text(at+".protocol", x["protocol"]), ProxyProtocol: m.text(at+".proxy_protocol", x["proxy_protocol"]),
	}
	if (x["host"] == nil) == (x["tcp"] == nil) {
		m.bad(at, "exactly one of host and tcp must be given").WithHint("host: NAME for HTTP, tcp: PORT of the gateway for anything else")
	}
	if x["port"] == nil {
		m.bad(at+".port", "is missing").WithHint("the port on which the service listens")
	}
	if !slices.Contains([]string{"", "http", "h2c"}, r.Protocol) {
		m.bad(at+".protocol", "%q is no protocol towards a service", r.Protocol).WithHint("http or h2c")
	}
	if !slices.Contains([]string{"", "v1", "v2"}, r.ProxyProtocol) {
		m.bad(at+".proxy_protocol", "%q is no version", r.ProxyProtocol).WithHint("v1 or v2")
	}
	return r
}

func (m *mapper) ready(at string, x map[string]any) *api.Probe {
	p := &api.Probe{Interval: m.length(at+".interval", x["interval"]),
		Timeout: m.length(at+".try_timeout", x["try_timeout"]), Deadline: m.length(at+".timeout", x["timeout"])}
	kinds := 0
	if http, ok := x["http"]; ok {
		kinds++
		o := m.object(at+".http", http)
		p.HTTP = &api.HTTPProbe{Path: m.text(at+".http.path", o["path"]), Port: m.port(at+".http.port", o["port"]), Host: m.text(at+".http.host", o["host"])}
		if p.HTTP.Path == "" {
			p.HTTP.Path = "/"
		}
		m.must(at+".http.port", o["port"])
	}
	if tcp, ok := x["tcp"]; ok {
		kinds++
		o := m.object(at+".tcp", tcp)
		p.TCP = &api.TCPProbe{Port: m.port(at+".tcp.port", o["port"])}
		m.must(at+".tcp.port", o["port"])
	}
	if exec, ok := x["exec"]; ok {
		kinds++
		p.Exec = m.command(at+".exec", exec)
	}
	if kinds != 1 {
		m.bad(at, "%d of http, tcp and exec are given", kinds).WithHint("give exactly one")
	}
	return p
}

// command takes a list of words, or one line for the shell.
func (m *mapper) command(at string, v any) []string {
	words := m.texts(at, v)
	if len(words) == 0 || strings.TrimSpace(words[0]) == "" {
		m.bad(at, "is empty").WithHint("a list of words, or one line for the shell")
	}
	if line, ok := v.(string); ok {
		return shell(line)
	}
	return words
}

func (m *mapper) must(at string, v any) {
	if v == nil {
		m.bad(at, "is missing").WithHint("the port on which the service listens")
	}
}

func (m *mapper) job(at string, raw any) *api.Job {
	j := &api.Job{}
	if o, ok := raw.(map[string]any); ok {
		j.When, j.Deadline = m.text(at+".when", o["when"]), m.length(at+".deadline", o["deadline"])
	} else {
		j.When = m.text(at, raw)
	}
	if !slices.Contains([]string{"before", "after", "branch"}, j.When) {
		m.bad(at, "%q is no time for a job", j.When).WithHint("before, after or branch")
		return nil
	}
	return j
}

// need adds a dependency on a service being ready, unless more is asked for already.
func (m *mapper) need(at, name string, s *api.Service) {
	if _, ok := m.project.Services[name]; !ok {
		m.absent(at, name, true)
		return
	}
	if s.DependsOn == nil {
		s.DependsOn = map[string]api.Condition{}
	}
	if s.DependsOn[name] != api.Completed {
		s.DependsOn[name] = api.Ready
	}
}

func (m *mapper) ployzPlacement(at string, x map[string]any, s *api.Service) {
	machines := m.texts(at+".machines", x["machines"])
	if len(machines) > 0 && len(s.Placement.Machines) > 0 && !slices.Equal(machines, s.Placement.Machines) {
		m.bad(at+".machines", "is %v, but deploy.placement.constraints says %v", machines, s.Placement.Machines).WithHint("take one of them away")
	}
	if len(machines) > 0 {
		s.Placement.Machines = machines
	}
	s.Placement.Regions = m.texts(at+".regions", x["regions"])
	s.Placement.Zones = m.texts(at+".zones", x["zones"])
}

func (m *mapper) secretEnv(at string, raw any, s *api.Service) {
	x := m.object(at, raw)
	for _, variable := range slices.Sorted(maps.Keys(x)) {
		here := at + "." + variable
		secret := m.text(here, x[variable])
		if _, ok := m.project.Secrets[secret]; !ok {
			m.bad(here, "there is no secret %q", secret).WithHint("declare it under secrets: at the top level")
			continue
		}
		if _, twice := s.Process.Env[variable]; twice {
			m.bad(here, "the variable is under environment too").WithHint("take one of them away")
		}
		if s.Process.SecretEnv == nil {
			s.Process.SecretEnv = map[string]string{}
		}
		s.Process.SecretEnv[variable] = secret
	}
}

// The readers below take nil, a key that is not there, for the zero value.

func (m *mapper) object(at string, v any) map[string]any {
	if v == nil {
		return nil
	}
	o, ok := v.(map[string]any)
	if !ok {
		m.bad(at, "is %s where keys are expected", shape(v)).WithHint("one KEY: VALUE a line, below it")
	}
	return o
}

func (m *mapper) list(at string, v any) []any {
	if v == nil {
		return nil
	}
	l, ok := v.([]any)
	if !ok {
		m.bad(at, "is %s where a list is expected", shape(v)).WithHint("begin each item with a dash")
	}
	return l
}

// texts takes one text for a list of one.
func (m *mapper) texts(at string, v any) (all []string) {
	if s, ok := v.(string); ok {
		return []string{s}
	}
	for i, element := range m.list(at, v) {
		all = append(all, m.text(item(at, i), element))
	}
	return all
}

func (m *mapper) text(at string, v any) string {
	switch v := v.(type) {
	case nil:
		return ""
	case string:
		return v
	case int, int64, uint64, float64, bool:
		return fmt.Sprint(v)
	}
	m.bad(at, "is %s where a text is expected", shape(v))
	return ""
}

func (m *mapper) port(at string, v any) uint16 {
	if v == nil {
		return 0
	}
	n, err := strconv.ParseUint(m.text(at, v), 10, 16)
	if err != nil || n == 0 {
		m.bad(at, "%v is not a port", v).WithHint("a number between 1 and 65535")
	}
	return uint16(n)
}

func (m *mapper) flag(at string, v any) bool {
	if v == nil {
		return false
	}
	on, err := strconv.ParseBool(m.text(at, v))
	if err != nil {
		m.bad(at, "%v is no switch", v).WithHint("true or false")
	}
	return on
}

func (m *mapper) length(at string, v any) api.Duration {
	if v == nil {
		return 0
	}
	d, err := time.ParseDuration(m.text(at, v))
	if err != nil || d <= 0 {
		m.bad(at, "%v is not a duration", v).WithHint("such as 500ms, 10s or 1m30s")
	}
	return api.Duration(d)
}

func shape(v any) string {
	switch v.(type) {
	case map[string]any:
		return "a mapping"
	case []any:
		return "a list"
	}
	return fmt.Sprintf("%q", fmt.Sprint(v))
}
