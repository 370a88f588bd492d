package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/ployz/ployz/datapath/bridge"
	"github.com/ployz/ployz/datapath/link"
	"github.com/ployz/ployz/datapath/overlay"
	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/mesh"
	"github.com/ployz/ployz/node/mesh/wireguard"
)

// mesh returns the mesh's state, nil for a machine that has none.
func (p *Program) mesh() (*mesh.State, error) {
	s, err := mesh.LoadState(mesh.StateFile(p.State))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return &s, err
}

// meshAlone puts the mesh back after the process that is its device was started anew: the bridge, whose addresses the
// routes need, the peers, and the routes.
func (p *Program) meshAlone() error {
	s, err := p.mesh()
	if err != nil || s == nil {
		return err
	}
	c, err := p.bridge()
	if err != nil {
		return err
	}
	if _, err := bridge.Ensure(c); err != nil {
		return err
	}
	_, err = p.ensureMesh(*s)
	return err
}

// ensureMesh makes device, peers and routes be as the state says, and returns what it changed. A userspace device that is not
// there yet is waited for.
func (p *Program) ensureMesh(s mesh.State) ([]string, error) {
	patience := cmp.Or(p.MeshPatience, 10*time.Second)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for {
		changes, err := tryMesh(ctx, s)
		if err == nil || !awaited(err) {
			return changes, inMesh(err)
		}
		select {
		case <-ctx.Done():
			return changes, inMesh(fmt.Errorf("not there after %s: %w", patience, err))
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func inMesh(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("mesh: %w", err)
}

// tryMesh gives the device its peers before its routes, so that what is routed there finds its peer.
func tryMesh(ctx context.Context, s mesh.State) ([]string, error) {
	c := overlay.Config{Interface: s.Interface, MTU: s.MTU, Source4: s.Source4, Source6: s.Source6, Routes: s.Routes(), Cluster: s.Cluster}
	made, err := overlay.EnsureDevice(c)
	if err != nil {
		return made, err
	}
	change, err := wireguard.Ensure(ctx, s)
	made = append(made, change.Text()...)
	if err != nil {
		return made, err
	}
	routed, err := overlay.Ensure(c)
	return append(made, routed...), err
}

// awaited tells whether the device is one that a process is about to make. A TUN device can be gone again between two
// looks at it, when its process has just ended.
func awaited(err error) bool {
	return errors.Is(err, overlay.ErrNeedsUserspace) || errors.Is(err, link.ErrNotFound) || api.CodeOf(err) == api.CodeMeshNoDevice
}
