package daemon

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os/user"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/ployz/ployz/node/api"
)

// Group is the group whose members may use the socket.
const Group = "ployz"

// Peer is who is at the other end of a connection, from the kernel.
type Peer struct {
	PID      int
	UID, GID uint32
	// Name is the user's name, or "uid N" when it has none.
	Name string
}

// InGroup reports whether the peer's process or user is in the group.
func (p Peer) InGroup(name string) bool {
	group, err := user.LookupGroup(name)
	if err != nil {
		return false
	}
	if strconv.Itoa(int(p.GID)) == group.Gid {
		return true
	}
	u, err := user.LookupId(strconv.Itoa(int(p.UID)))
	if err != nil {
		return false
	}
	ids, err := u.GroupIds()
	return err == nil && slices.Contains(ids, group.Gid)
}

func admitByDefault(p Peer) bool { return p.UID == 0 || p.InGroup(Group) }

type peerKey struct{}

// withPeer reads the peer of a new connection once; it cannot change.
func withPeer(ctx context.Context, conn net.Conn) context.Context {
	p, err := peerOf(conn)
	if err != nil {
		return ctx // admitted refuses a request without a peer
	}
	return context.WithValue(ctx, peerKey{}, p)
}

func peerOf(conn net.Conn) (Peer, error) {
	unixConn, ok := conn.(*net.UnixConn)
	if !ok {
		return Peer{}, fmt.Errorf("daemon: a %T has no peer", conn)
	}
	raw, err := unixConn.SyscallConn()
	if err != nil {
		return Peer{}, err
	}
	var (
		cred   *unix.Ucred
		getErr error
	)
	if err := raw.Control(func(fd uintptr) { cred, getErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); err != nil {
		return Peer{}, err
	}
	if getErr != nil {
		return Peer{}, getErr
	}
	return Peer{PID: int(cred.Pid), UID: cred.Uid, GID: cred.Gid, Name: userName(cred.Uid)}, nil
}

func userName(uid uint32) string {
	u, err := user.LookupId(strconv.Itoa(int(uid)))
	if err != nil {
		return fmt.Sprintf("uid %d", uid)
	}
	return u.Username
}

// admitted refuses strangers. The socket's own mode does so too; this holds when somebody changed it.
func (a *API) admitted(next http.Handler) http.Handler {
	admit := a.Admit
	if admit == nil {
		admit = admitByDefault
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p, known := r.Context().Value(peerKey{}).(Peer)
		if !known || !admit(p) {
			writeError(w, api.Errorf(api.CodePermission, "user %s is neither root nor in the group %s", p.Name, Group).
				WithHint("sudo usermod -aG %s %s, then log in again", Group, p.Name))
			return
		}
		next.ServeHTTP(w, r)
	})
}

// caller is the name that the ledger keeps.
func caller(r *http.Request) string {
	p, _ := r.Context().Value(peerKey{}).(Peer)
	return p.Name
}
