package link

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
)

const sysctlRoot = "/proc/sys/net"

// EnsureSysctl sets a key below net, in slashes ("ipv4/ip_forward"), in the calling thread's
// namespace. Errors: os.ErrNotExist where the kernel (or the interface in the key) lacks it.
func (k *Kernel) EnsureSysctl(key, value string) error {
	path := filepath.Join(sysctlRoot, key)
	found, err := os.ReadFile(path)
	if k.inspecting && errors.Is(err, os.ErrNotExist) {
		k.changes = append(k.changes, k.place+"set net/"+key+" = "+value)
		return nil
	}
	if err != nil {
		return &Error{k.place + "read net/" + key, err}
	}
	if strings.TrimSpace(string(found)) == value {
		return nil
	}
	return k.do(func() error { return os.WriteFile(path, []byte(value), 0o644) }, "set net/%s = %s", key, value)
}

// EnsureForwarding turns IPv4 and IPv6 forwarding on. A kernel that forwards IPv6 stops
// listening to router advertisements unless accept_ra is 2, and the machine would lose its
// own default route; so interfaces that listened before (and ones to come) keep listening.
func (k *Kernel) EnsureForwarding() error {
	if err := k.EnsureSysctl("ipv4/ip_forward", "1"); err != nil {
		return err
	}
	const forwarding = "ipv6/conf/all/forwarding"
	now, err := os.ReadFile(filepath.Join(sysctlRoot, forwarding))
	if err != nil {
		return &Error{"read net/" + forwarding + " (is IPv6 disabled on the kernel's command line?)", err}
	}
	if strings.TrimSpace(string(now)) == "0" {
		if err := k.keepAdvertisements(); err != nil {
			return err
		}
	}
	return k.EnsureSysctl(forwarding, "1")
}

func (k *Kernel) keepAdvertisements() error {
	keys, err := filepath.Glob(sysctlRoot + "/ipv6/conf/*/accept_ra")
	if err != nil {
		return err
	}
	for _, path := range keys {
		name := filepath.Base(filepath.Dir(path))
		value, err := os.ReadFile(path)
		if name == "all" || name == "lo" || err != nil || strings.TrimSpace(string(value)) != "1" {
			continue // gone meanwhile, or not listening anyway
		}
		if err := k.EnsureSysctl("ipv6/conf/"+name+"/accept_ra", "2"); err != nil {
			return err
		}
	}
	return nil
}
