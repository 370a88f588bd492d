package compose

import (
	"maps"
	"math"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/compose-spec/compose-go/v2/types"

	"github.com/ployz/ployz/node/api"
)

// mapper turns the merged project into the spec.
type mapper struct {
	*loader
	project *types.Project
	spec    api.Spec
}

func (m *mapper) bad(path, format string, args ...any) *api.Error {
	err := api.Errorf(api.CodeComposeValue, format, args...)
	m.problem(path, err)
	return err
}

// refuse keeps an unsupported value of a supported key.
func (m *mapper) refuse(path, value, why, instead string) {
	m.problem(path, Key{Note: why, Instead: instead}.refusal(strconv.Quote(value)))
}

func (m *mapper) all() {
	for _, name := range slices.Sorted(maps.Keys(m.project.Services)) {
		m.service(name, m.project.Services[name])
	}
	if len(m.project.Services) == 0 {
		m.bad("services", "no service is active").WithHint("add one, or activate a profile: ployzctl deploy --profile NAME")
	}
	m.inferJobs()
	for _, name := range slices.Sorted(maps.Keys(m.spec.Services)) {
		m.finish(name)
	}
	m.values()
	m.volumes()
	m.retention()
}

func (m *mapper) service(name string, c types.ServiceConfig) {
	at := "services." + name
	if !nameShape.MatchString(name) {
		m.problem(at, api.Errorf(api.CodeComposeName, "%q cannot be a service's name: %s", name, nameRule).
			WithHint("rename the service, such as %q", strings.Trim(notInName.ReplaceAllString(strings.ToLower(name), "-"), "-")))
	}
	if c.Image == "" {
		m.bad(at+".image", "is missing").WithHint("every service runs from an image")
	}
	s := api.Service{Image: c.Image, Labels: m.labels(at, &c)}
	s.Process = m.program(at, &c)
	m.mounts(at, c, &s)
	s.Ports = m.ports(at, c)
	s.Ready = m.healthcheck(at, c)
	m.placement(at, c, &s)
	s.Resources = m.resources(at, c)
	s.Restart = m.restart(at, c)
	s.Security = m.security(at, c)
	s.DependsOn = m.dependsOn(at, c)
	m.only(at, c)
	if x, ok := c.Extensions["x-ployz"]; ok {
		m.ployz(at+".x-ployz", c, x, &s)
	}
	m.spec.Services[name] = s
}

var notInName = regexp.MustCompile(`[^a-z0-9]+`)

// only refuses the values, of keys that are supported for one value, that are another.
func (m *mapper) only(at string, c types.ServiceConfig) {
	flag := func(key string, set bool, why, instead string) {
		if set {
			m.refuse(at+"."+key, "true", why, instead)
		}
	}
	flag("privileged", c.Privileged, "a privileged instance could do anything to the machine", "cap_add and devices, for just what it needs")
	flag("tty", c.Tty, "a service has no terminal", "ployzctl exec -it NAMESPACE/SERVICE, for a shell in a running instance")
	flag("stdin_open", c.StdinOpen, "a service has no standard input", "a command that goes on without input")
	word := func(key, value, why, instead string, allowed ...string) {
		if value != "" && !slices.Contains(allowed, value) {
			m.refuse(at+"."+key, value, why, instead)
		}
	}
	word("pull_policy", c.PullPolicy, "an image is pulled when a machine lacks its digest", "pull_policy: missing", "missing", "if_not_present")
	word("runtime", c.Runtime, "every instance is run by runc", "runtime: runc, or nothing", "runc")
	if c.Logging != nil {
		word("logging.driver", c.Logging.Driver, "logs go to the machine's journal", "take logging away; read with: ployzctl logs NAMESPACE/SERVICE", "journald")
	}
	for _, network := range slices.Sorted(maps.Keys(c.Networks)) {
		if network != "default" {
			m.refuse(at+".networks", network, oneNetwork, noNetworks)
		}
	}
}

func (m *mapper) labels(at string, c *types.ServiceConfig) map[string]string {
	for i, path := range c.LabelFiles {
		if _, err := readRegular(path); err != nil {
			m.problem(at+".label_file", missingFile(m.short(path), err))
			c.LabelFiles = slices.Delete(slices.Clone(c.LabelFiles), i, i+1)
			return nil
		}
	}
	m.resolve(at+".label_file", c, func(p *types.Project) (*types.Project, error) { return p.WithServicesLabelsResolved(true) })
	labels := map[string]string{}
	maps.Copy(labels, c.Labels)
	if c.Deploy != nil {
		for _, k := range slices.Sorted(maps.Keys(c.Deploy.Labels)) {
			if old, ok := labels[k]; ok && old != c.Deploy.Labels[k] {
				m.bad(at+".deploy.labels", "the label %s is %q here and %q under the service", k, c.Deploy.Labels[k], old).WithHint("take one of them away")
			}
			labels[k] = c.Deploy.Labels[k]
		}
	}
	if len(labels) == 0 {
		return nil
	}
	return labels
}

// resolve has compose-go read the files that a service names, once they are known to exist.
func (m *mapper) resolve(path string, c *types.ServiceConfig, with func(*types.Project) (*types.Project, error)) {
	one := &types.Project{Environment: m.project.Environment, Services: types.Services{c.Name: *c}}
	done, err := with(one)
	if err != nil {
		m.bad(path, "%w", err).WithHint("each line is NAME=value")
		return
	}
	*c = done.Services[c.Name]
}

// program is what runs inside an instance, as whom and where.
func (m *mapper) program(at string, c *types.ServiceConfig) api.Process {
	p := api.Process{Entrypoint: c.Entrypoint, Command: c.Command, Env: m.environment(at, c), WorkDir: c.WorkingDir,
		User: c.User, Hostname: c.Hostname, StopSignal: c.StopSignal, ExtraHosts: m.extraHosts(at, *c)}
	// Over JSON an empty list looks like none, which would mean the image's own.
	for key, words := range map[string][]string{"command": c.Command, "entrypoint": c.Entrypoint} {
		if words != nil && len(words) == 0 {
			m.bad(at+"."+key, "is empty").WithHint("leave it out for the image's own, or name a program")
		}
	}
	if c.StopGracePeriod != nil {
		p.StopGrace = m.duration(at+".stop_grace_period", *c.StopGracePeriod)
	}
	return p
}

func (m *mapper) duration(path string, d types.Duration) api.Duration {
	if d < 0 {
		m.bad(path, "%s is negative", time.Duration(d)).WithHint("such as 10s or 1m30s")
	}
	return api.Duration(d)
}

func (m *mapper) environment(at string, c *types.ServiceConfig) map[string]string {
	for _, f := range c.EnvFiles {
		if _, err := readRegular(f.Path); err != nil && bool(f.Required) {
			m.problem(at+".env_file", missingFile(m.short(f.Path), err))
			return nil
		} else if err != nil {
			m.note(at+".env_file", "the file %s is left out: %v", m.short(f.Path), err)
		}
	}
	c.EnvFiles = slices.DeleteFunc(slices.Clone(c.EnvFiles), func(f types.EnvFile) bool {
		_, err := readRegular(f.Path)
		return err != nil
	})
	m.resolve(at+".env_file", c, func(p *types.Project) (*types.Project, error) { return p.WithServicesEnvironmentResolved(true) })
	env := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(c.Environment)) {
		if v := c.Environment[name]; v != nil {
			env[name] = *v
		} else {
			m.note(at+".environment."+name, "the variable %s is not set here, so the service does not get it", name)
		}
	}
	if len(env) == 0 {
		return nil
	}
	return env
}

func (m *mapper) extraHosts(at string, c types.ServiceConfig) map[string]string {
	if len(c.ExtraHosts) == 0 {
		return nil
	}
	hosts := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(c.ExtraHosts)) {
		addresses := c.ExtraHosts[name]
		if len(addresses) != 1 {
			m.bad(at+".extra_hosts", "%s has %d addresses", name, len(addresses)).WithHint("give one")
			continue
		}
		if _, err := netip.ParseAddr(strings.Trim(addresses[0], "[]")); err != nil {
			m.refuse(at+".extra_hosts", name+"="+addresses[0], "the value is no address", "an IP address; other services are found by their names")
			continue
		}
		hosts[name] = strings.Trim(addresses[0], "[]")
	}
	return hosts
}

func (m *mapper) resources(at string, c types.ServiceConfig) api.Resources {
	r := api.Resources{CPUs: float(c.CPUS), MemoryBytes: int64(c.MemLimit), PIDs: max(c.PidsLimit, 0), ReserveMemoryBytes: int64(c.MemReservation)}
	if c.BlkioConfig != nil && c.BlkioConfig.Weight != 0 {
		if w := c.BlkioConfig.Weight; w < 10 || w > 1000 {
			m.bad(at+".blkio_config.weight", "%d is out of range", w).WithHint("between 10 and 1000")
		}
		r.IOWeight = max(1, int(c.BlkioConfig.Weight)/5)
	}
	if c.Deploy != nil {
		if d := c.Deploy.Resources.Limits; d != nil {
			r.CPUs = either(m, at+".deploy.resources.limits.cpus", "cpus", r.CPUs, float(float32(d.NanoCPUs)))
			r.MemoryBytes = either(m, at+".deploy.resources.limits.memory", "mem_limit", r.MemoryBytes, int64(d.MemoryBytes))
			r.PIDs = either(m, at+".deploy.resources.limits.pids", "pids_limit", r.PIDs, max(d.Pids, 0))
		}
		if d := c.Deploy.Resources.Reservations; d != nil {
			r.ReserveCPUs = float(float32(d.NanoCPUs))
			r.ReserveMemoryBytes = either(m, at+".deploy.resources.reservations.memory", "mem_reservation", r.ReserveMemoryBytes, int64(d.MemoryBytes))
		}
	}
	if r.CPUs < 0 || r.ReserveCPUs < 0 || r.MemoryBytes < 0 || r.ReserveMemoryBytes < 0 || math.IsNaN(r.CPUs) || math.IsInf(r.CPUs, 0) {
		m.bad(at+".deploy.resources", "a limit is negative or no number").WithHint("leave it out for no limit")
	}
	return r
}

// either takes the one of two keys for the same thing that is set, and insists that two agree.
func either[T int64 | float64](m *mapper, path, other string, old, value T) T {
	if value == 0 {
		return old
	}
	if old != 0 && old != value {
		m.bad(path, "is %v, but the service's %s is %v", value, other, old).WithHint("take one of them away")
	}
	return value
}

// float widens without the noise of the narrower type: 0.1 stays 0.1.
func float(f float32) float64 {
	wide, err := strconv.ParseFloat(strconv.FormatFloat(float64(f), 'g', -1, 32), 64)
	if err != nil {
		return float64(f)
	}
	return wide
}
