package daemon

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"net/url"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/machine"
	"github.com/ployz/ployz/node/storage"
)

// volumePath is where a machine fetches a volume, named by its ID; the query names the operation. It needs no right to
// command, only to have been named by whoever has it: an offer names the machine.
const volumePath = "/v1/volumes/{id}/transfer"

// volumeProtocol is what the connection carries once it has left HTTP.
const volumeProtocol = "ployz-volume"

// PeerVolumes sends this machine's volumes to other machines. node/storage/transfer's Desk does.
type PeerVolumes interface {
	// Check refuses a machine to which a volume is not offered by the operation. Errors: volume.not-offered.
	Check(machine, operation, volume string) error
	// Answer carries what is offered over the connection, and closes it.
	Answer(ctx context.Context, machine, operation, volume string, conn io.ReadWriteCloser) (storage.Carried, error)
}

// sendVolume answers POST /v1/volumes/{id}/transfer for peers: the connection leaves HTTP, and ends with serving.
func (p *PeerSurface) sendVolume(serving context.Context) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		from, _ := r.Context().Value(machineKey{}).(machine.Member)
		volume, operation := r.PathValue("id"), r.URL.Query().Get("operation")
		if p.Volumes == nil {
			writeError(w, api.Errorf(api.CodeVolumePoolUnavailable, "this machine has no pool for volumes").WithHint("ployzctl doctor"))
			return
		}
		if err := p.Volumes.Check(from.ID, operation, volume); err != nil {
			writeError(w, err)
			return
		}
		conn, buffered, err := http.NewResponseController(w).Hijack()
		if err != nil {
			writeError(w, api.Errorf(api.CodeInternal, "taking the connection over: %w", err))
			return
		}
		if _, err := io.WriteString(conn, switchingTo(volumeProtocol)); err != nil {
			conn.Close()
			return // the peer is gone
		}
		p.answerVolume(serving, from, operation, volume, hijacked{conn, buffered.Reader})
	}
}

func (p *PeerSurface) answerVolume(ctx context.Context, to machine.Member, operation, volume string, conn io.ReadWriteCloser) {
	log := p.Log.With("volume", volume, "operation", operation, "machine", to.Name)
	log.Info("a volume is fetched")
	sent, err := p.Volumes.Answer(ctx, to.ID, operation, volume, conn)
	if err != nil {
		log.Warn("a volume was not fetched", "bytes", sent.Bytes, "why", err.Error())
		return
	}
	log.Info("a volume was fetched", "snapshot", sent.Snapshot, "guid", sent.GUID, "bytes", sent.Bytes, "took", sent.Took)
}

func switchingTo(protocol string) string {
	return "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: " + protocol + "\r\n\r\n"
}

// hijacked is a connection of which HTTP has read a part already.
type hijacked struct {
	net.Conn
	r *bufio.Reader
}

// Read implements net.Conn.
func (h hijacked) Read(p []byte) (int, error) { return h.r.Read(p) }

// DialVolume connects to the machine with that id, which has offered it a volume. Errors: machine.not-found,
// deploy.machine-silent, and what that machine refuses with.
func (n *Neighbours) DialVolume(ctx context.Context, id, operation, volume string) (io.ReadWriteCloser, error) {
	members, err := n.others(ctx)
	if err != nil {
		return nil, err
	}
	for _, m := range members {
		if m.ID == id {
			return n.dialVolume(ctx, m, operation, volume)
		}
	}
	return nil, api.Errorf(api.CodeMachineAbsent, "the volume is on a machine that is no member").About(id).WithHint("list them: ployzctl machine ls")
}

func (n *Neighbours) dialVolume(ctx context.Context, m machine.Member, operation, volume string) (io.ReadWriteCloser, error) {
	resp, err := n.ask(ctx, m, Ask{
		Method: http.MethodPost, Path: "/v1/volumes/" + volume + "/transfer", Query: url.Values{"operation": {operation}},
		Header: http.Header{"Connection": {"Upgrade"}, "Upgrade": {volumeProtocol}},
	}, n.Machine)
	if err != nil {
		return nil, err
	}
	conn, switched := resp.Body.(io.ReadWriteCloser)
	if !switched {
		resp.Body.Close()
		return nil, api.Errorf(api.CodeMachineSilent, "it did not send the volume: %s", resp.Status).About(m.Name)
	}
	return conn, nil
}
