package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"time"

	"github.com/ployz/ployz/datapath/firewall"
	"github.com/ployz/ployz/datapath/link"
	"github.com/ployz/ployz/datapath/overlay"
	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/machine"
	"github.com/ployz/ployz/node/mesh"
	"github.com/ployz/ployz/node/mesh/wireguard"
	"github.com/ployz/ployz/node/sdk"
)

// joinInterface is the WireGuard device by which a machine reaches the one that invited it, until it has
// peers of its own.
const joinInterface = "ployz-join"

// knockTime is how long one endpoint of the inviting machine is tried.
const knockTime = 4 * time.Second

// deviceTime is how long the userspace program may take to make its device; on a busy machine it takes seconds.
const deviceTime = 20 * time.Second

// door is the machine that gave the token: machine.Door over the token's own WireGuard peer. The device is
// there from the first call until Close.
type door struct {
	text   string
	daemon *Daemon

	token machine.TokenText

	client  *sdk.Client
	process *exec.Cmd
}

// open makes the device and finds the endpoint that answers. Errors: token.cluster-unreachable, network.failed.
func (d *door) open(ctx context.Context) (*sdk.Client, error) {
	if d.client != nil {
		return d.client, nil
	}
	var err error
	if d.token, err = machine.DecodeToken(d.text); err != nil {
		return nil, err
	}
	if err := d.token.Late(time.Now()); err != nil {
		return nil, err
	}
	if err := d.makeDevice(ctx); err != nil {
		return nil, api.Errorf(api.CodeNetworkFailed, "making the joining device: %w", err).About(joinInterface)
	}
	client, err := sdk.Open("tcp://" + netip.AddrPortFrom(d.token.Overlay, firewall.ThresholdPort).String())
	if err != nil {
		return nil, err
	}
	for _, endpoint := range d.token.Endpoints {
		if err := d.aim(ctx, endpoint); err != nil {
			return nil, api.Errorf(api.CodeNetworkFailed, "the joining device: %w", err).About(joinInterface)
		}
		bounded, cancel := context.WithTimeout(ctx, knockTime)
		_, err := client.Version(bounded)
		cancel()
		if err == nil {
			d.client = client
			return client, nil
		}
	}
	return nil, d.unreachable(ctx)
}

// makeDevice makes the device with the token's address and a route to the inviting machine alone.
func (d *door) makeDevice(ctx context.Context) error {
	userspace, err := overlay.NeedsUserspace()
	if err != nil {
		return err
	}
	if userspace && d.process == nil {
		d.process = exec.Command(program("ployz-wireguard"), joinInterface)
		d.process.Env = []string{"PATH=" + os.Getenv("PATH")} // it is not systemd's to hear of
		d.process.Stderr = os.Stderr
		if err := d.process.Start(); err != nil {
			d.process = nil
			return err
		}
	}
	return await(ctx, deviceTime, func() error {
		c := overlay.Config{Interface: joinInterface, MTU: meshMTU, Source4: netip.IPv4Unspecified(), Source6: d.token.Address}
		if _, err := overlay.EnsureDevice(c); err != nil {
			return err
		}
		k, err := link.Open()
		if err != nil {
			return err
		}
		defer k.Close()
		if err := k.EnsureAddresses(joinInterface, netip.PrefixFrom(d.token.Address, 128)); err != nil {
			return err
		}
		c.Routes = []netip.Prefix{netip.PrefixFrom(d.token.Overlay, 128)}
		if _, err = overlay.Ensure(c); err != nil {
			return err
		}
		_, err = readDevice(ctx, joinInterface) // the link is there before its process can be spoken to
		return err
	})
}

func readDevice(ctx context.Context, name string) (mesh.Seen, error) {
	device, err := wireguard.Open(name)
	if err != nil {
		return mesh.Seen{}, err
	}
	defer device.Close()
	return device.Read(ctx)
}

// await repeats until it works or the time is up, and returns the last error.
func await(ctx context.Context, within time.Duration, try func() error) error {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	for {
		err := try()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// aim points the device at one endpoint.
func (d *door) aim(ctx context.Context, endpoint netip.AddrPort) error {
	raw, err := mesh.ParseKey(d.token.Private)
	if err != nil {
		return err
	}
	key, err := mesh.ParseKey(d.token.MeshKey)
	if err != nil {
		return err
	}
	device, err := wireguard.Open(joinInterface)
	if err != nil {
		return err
	}
	defer device.Close()
	private, keepalive := mesh.NewPrivateKey(raw), mesh.NATKeepalive
	return device.Apply(ctx, mesh.Change{Private: &private, Peers: []mesh.PeerChange{{
		Act: mesh.Add, Machine: d.token.Machine, PublicKey: key, Endpoint: endpoint, Keepalive: &keepalive, Replace: true,
		AllowedIPs: []netip.Prefix{netip.PrefixFrom(d.token.Overlay, 128)},
	}}})
}

// unreachable says which way is closed, as far as this side can tell.
func (d *door) unreachable(ctx context.Context) error {
	why := "no answer over UDP, and nothing says that what this machine sends arrives there: UDP from this machine to it is blocked, most likely"
	if arrives(ctx, d.token.Endpoints) {
		why = "no answer over UDP, though what this machine sends arrives there (ICMP tells): UDP from it to this machine is blocked, " +
			"or the token is not one that it gave, or was withdrawn or used"
	}
	seen, err := readDevice(ctx, joinInterface)
	if err == nil && len(seen.Peers) == 1 && !seen.Peers[0].LastHandshake.IsZero() {
		why = "the handshake works, but its daemon does not answer"
	}
	return api.Errorf(api.CodeTokenUnreachable, "%s at %v: %s", d.token.Machine, d.token.Endpoints, why).About(d.token.ClusterName).
		WithHint("open UDP port %d both ways; on %s: ployzctl machine ls", d.daemon.Settings.Mesh.Port, d.token.Machine)
}

// Preview implements machine.Door.
func (d *door) Preview(ctx context.Context, request api.AdmitRequest) ([]*api.Error, error) {
	client, err := d.open(ctx)
	if err != nil {
		return nil, err
	}
	plan, err := client.Preview(ctx, api.KindMachineAdmit, request)
	return plan.Unmet, err
}

// admitTries is how often an admission that lost a race for a subnet is asked for again.
const admitTries = 8

// Admit implements machine.Door. The door is shut behind it: two ways to the inviting machine would have the
// store's connections leave from the address that is about to go.
func (d *door) Admit(ctx context.Context, request api.AdmitRequest) (result api.AdmitResult, err error) {
	defer func() { err = errors.Join(err, d.Close()) }()
	out, err := d.ask(ctx, api.KindMachineAdmit, request)
	for try := 1; try < admitTries && err != nil && api.CodeOf(err) == api.CodeConflict; try++ {
		request.Clock = time.Now()
		out, err = d.ask(ctx, api.KindMachineAdmit, request)
	}
	if err != nil {
		return result, err
	}
	if err := json.Unmarshal(out.Value, &result); err != nil {
		return result, api.Errorf(api.CodeInternal, "the admission's result cannot be read: %w", err)
	}
	return result, nil
}

// Withdraw implements machine.Door.
func (d *door) Withdraw(ctx context.Context, request api.AdmitRequest) (err error) {
	defer func() { err = errors.Join(err, d.Close()) }()
	_, err = d.ask(ctx, api.KindMachineWithdraw, request)
	return err
}

// ask runs an operation on the inviting machine; leftovers there are its operator's business.
func (d *door) ask(ctx context.Context, kind string, request api.AdmitRequest) (api.Outcome, error) {
	client, err := d.open(ctx)
	if err != nil {
		return api.Outcome{}, err
	}
	out, err := client.Run(ctx, kind, request, "", nil)
	switch {
	case err != nil:
		return out, err
	case out.Outcome == api.Committed || out.Outcome == api.CommittedLeftovers:
		return out, nil
	case out.Error != nil:
		return out, out.Error
	}
	return out, api.Errorf(api.CodeInternal, "%s on %s ended %s", kind, d.token.Machine, out.Outcome)
}

// Close takes the device away.
func (d *door) Close() error {
	if !d.token.Address.IsValid() {
		return nil // it was never opened
	}
	if d.client != nil {
		d.client.Close()
		d.client = nil
	}
	if d.process != nil {
		if err := d.process.Process.Signal(os.Interrupt); err != nil {
			return fmt.Errorf("ending the joining device: %w", err)
		}
		d.process.Wait() //nolint:errcheck // it ends as it was told to
		d.process = nil
	}
	_, err := overlay.Remove(overlay.Config{Interface: joinInterface, MTU: meshMTU, Source4: netip.IPv4Unspecified(), Source6: d.token.Address})
	return err
}
