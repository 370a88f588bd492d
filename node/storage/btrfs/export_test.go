package btrfs

// Groups is where the kernel tells of a pool's quota groups.
func (p *Pool) Groups() (string, error) { return p.groups() }
