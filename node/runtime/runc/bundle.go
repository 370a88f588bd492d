package runc

import (
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/runtime"
	"github.com/ployz/ployz/node/runtime/runc/boot"
	"github.com/ployz/ployz/units"
)

// Annotations of the bundle, which runc reports of what it runs.
const (
	annotationInstance = "ployz.instance"
	annotationIdentity = "ployz.identity"
)

// Input is everything that a bundle is rendered from: with equal inputs it is equal byte for byte.
type Input struct {
	Spec      runtime.Spec
	Image     runtime.Image
	Addresses runtime.Addresses
	Identity  string
	// User is the image's or the spec's user, resolved.
	User specs.User
	// Devices are the spec's, with the numbers they have on this machine.
	Devices []specs.LinuxDevice
	// Dir is the instance's folder, Run the folder that a reboot empties.
	Dir, Run string
	// Nameservers answer the instance's questions; Domain is the cluster's own.
	Nameservers []string
	Domain      string
	// Seccomp makes the system-call filter for the rest of the bundle; nil for none.
	Seccomp func(*specs.Spec) (*specs.LinuxSeccomp, error)
}

// Bundle renders the OCI configuration. Errors: runtime.invalid-spec.
func (in Input) Bundle() (*specs.Spec, error) {
	program, err := in.program()
	if err != nil {
		return nil, err
	}
	linux, err := in.linux()
	if err != nil {
		return nil, err
	}
	s := &specs.Spec{
		Version:     specs.Version,
		Process:     program,
		Root:        &specs.Root{Path: filepath.Join(in.Dir, "rootfs"), Readonly: in.Spec.Security.ReadOnly},
		Hostname:    in.hostname(),
		Mounts:      in.mounts(),
		Annotations: map[string]string{annotationInstance: in.Spec.ID, annotationIdentity: in.Identity},
		Linux:       linux,
	}
	if in.Seccomp != nil && !in.Spec.Security.SeccompUnconfined {
		if s.Linux.Seccomp, err = in.Seccomp(s); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// program is the process object of OCI: what runs, as whom, and with which rights.
func (in Input) program() (*specs.Process, error) {
	args, err := in.args()
	if err != nil {
		return nil, err
	}
	caps, err := in.capabilities()
	if err != nil {
		return nil, err
	}
	limits, err := rlimits(in.Spec.Security.Ulimits)
	if err != nil {
		return nil, err
	}
	return &specs.Process{
		User: in.User, Args: args, Env: in.env(), Cwd: first(in.Spec.Process.WorkDir, in.Image.Config.WorkDir, "/"),
		Capabilities: caps, Rlimits: limits, NoNewPrivileges: !in.Spec.Security.NewPrivileges,
	}, nil
}

// args follows Docker: an entrypoint of one's own also drops the image's command.
func (in Input) args() ([]string, error) {
	p, c := in.Spec.Process, in.Image.Config
	entrypoint, command := p.Entrypoint, p.Command
	if entrypoint == nil {
		entrypoint = c.Entrypoint
		if command == nil {
			command = c.Command
		}
	}
	args := slices.Concat(entrypoint, command)
	if len(args) == 0 {
		return nil, in.invalid("neither the image nor the service says which command to run").WithHint("set `command:` for the service")
	}
	return args, nil
}

const defaultPath = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// env is the image's with the spec's in place; a variable has one value, where it first stood.
func (in Input) env() []string {
	env := []string{defaultPath, "HOSTNAME=" + in.hostname()}
	set := func(assignment string) {
		name, _, _ := strings.Cut(assignment, "=")
		for i, have := range env {
			if strings.HasPrefix(have, name+"=") {
				env[i] = assignment
				return
			}
		}
		env = append(env, assignment)
	}
	for _, assignment := range in.Image.Config.Env {
		set(assignment)
	}
	for _, name := range sortedKeys(in.Spec.Process.Env) {
		set(name + "=" + in.Spec.Process.Env[name])
	}
	return env
}

func (in Input) linux() (*specs.Linux, error) {
	sysctls, err := in.sysctls()
	if err != nil {
		return nil, err
	}
	return &specs.Linux{
		CgroupsPath: units.WorkloadCgroup(in.Spec.ID) + "/payload",
		Namespaces: []specs.LinuxNamespace{
			{Type: specs.PIDNamespace}, {Type: specs.IPCNamespace}, {Type: specs.UTSNamespace}, {Type: specs.MountNamespace},
			{Type: specs.CgroupNamespace}, {Type: specs.NetworkNamespace, Path: filepath.Join(in.Run, "netns", in.Spec.ID)},
		},
		Sysctl:        sysctls,
		Devices:       in.Devices,
		Resources:     &specs.LinuxResources{Devices: in.deviceRules()},
		MaskedPaths:   slices.Clone(maskedPaths),
		ReadonlyPaths: slices.Clone(readonlyPaths),
	}, nil
}

// BundleDir is where runc finds the bundle: the folder itself, unless variables are secret.
func (in Input) BundleDir() string {
	if len(in.Spec.SecretEnv) > 0 {
		return boot.BundleDir(in.Run, in.Spec.ID)
	}
	return in.Dir
}

func (in Input) hostname() string { return first(in.Spec.Process.Hostname, in.Spec.Slot, in.Spec.ID) }

func (in Input) invalid(format string, args ...any) *api.Error {
	return api.Errorf(api.CodeRuntimeInvalid, format, args...).About("instance " + in.Spec.ID)
}

func first(values ...string) string {
	for _, v := range values {
		if v != "" {
			return v
		}
	}
	return ""
}

// numericUser reads "uid" and "uid:gid"; ok is false for names.
func numericUser(user string) (u specs.User, ok bool) {
	uid, gid, both := strings.Cut(user, ":")
	n, err := strconv.ParseUint(uid, 10, 32)
	if err != nil {
		return u, false
	}
	u.UID = uint32(n)
	if !both {
		return u, true
	}
	n, err = strconv.ParseUint(gid, 10, 32)
	u.GID = uint32(n)
	return u, err == nil
}
