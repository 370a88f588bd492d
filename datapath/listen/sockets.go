package listen

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"github.com/coreos/go-systemd/v22/activation"
	"golang.org/x/sys/unix"
)

// Environment of a hand-over, next to systemd's own LISTEN_FDS and LISTEN_FDNAMES.
const (
	// envHandOver replaces LISTEN_PID, which a parent cannot know before the child exists.
	envHandOver = "PLOYZ_LISTEN_HANDOVER"
	// envReadyFD is the number of the pipe's end that the successor reports ready on.
	envReadyFD = "PLOYZ_LISTEN_READY_FD"
)

// SocketError says which socket could not be taken over or bound.
type SocketError struct {
	Name    string // as in FileDescriptorName=
	Network string // "tcp", "udp"; empty for one taken over
	Address string // as asked for; empty for one taken over
	Err     error
}

func (e *SocketError) Error() string {
	if e.Network == "" {
		return fmt.Sprintf("listen: socket %q taken over: %v", e.Name, e.Err)
	}
	return fmt.Sprintf("listen: socket %q on %s %s: %v", e.Name, e.Network, e.Address, e.Err)
}

// Unwrap returns the cause.
func (e *SocketError) Unwrap() error { return e.Err }

// socket is one listening socket; the descriptor is ours alone and stays open until Release.
type socket struct {
	name string
	fd   int
	kind int // SOCK_STREAM or SOCK_DGRAM
}

// Sockets are the listening sockets of this process by name. Several may share a name (one
// socket unit with several ListenStream= lines). Safe for concurrent use.
type Sockets struct {
	mu     sync.Mutex
	list   []socket // guarded by mu
	ready  *os.File // pipe to the predecessor; nil when started by anything else
	handed bool
}

// Inherit takes over every socket that systemd or a predecessor passed, and clears the
// environment of them so that children do not see it. With none passed the result is empty.
// Call it once, first thing in main. Errors: *SocketError for a descriptor that is no socket.
func Inherit() (*Sockets, error) {
	s := &Sockets{handed: os.Getenv(envHandOver) != ""}
	if s.handed {
		os.Setenv("LISTEN_PID", strconv.Itoa(os.Getpid()))
		s.ready = readyPipe()
	}
	os.Unsetenv(envHandOver)
	os.Unsetenv(envReadyFD)
	for _, f := range activation.Files(true) {
		err := s.adopt(f)
		f.Close()
		if err != nil {
			return nil, err
		}
	}
	return s, nil
}

func readyPipe() *os.File {
	fd, err := strconv.Atoi(os.Getenv(envReadyFD))
	if err != nil {
		return nil
	}
	unix.CloseOnExec(fd)
	return os.NewFile(uintptr(fd), "ready")
}

func (s *Sockets) adopt(f *os.File) error {
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		return &SocketError{Name: f.Name(), Err: err}
	}
	return s.keep(f.Name(), fd)
}

// keep takes ownership of fd.
func (s *Sockets) keep(name string, fd int) error {
	kind, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE)
	if err == nil {
		err = unix.SetNonblock(fd, true)
	}
	if err != nil {
		unix.Close(fd)
		return &SocketError{Name: name, Err: err}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.list = append(s.list, socket{name: name, fd: fd, kind: kind})
	return nil
}

// HandedOver says whether a predecessor started this process and waits for Ready.
func (s *Sockets) HandedOver() bool { return s.handed }

// Names returns the names of all sockets held, sorted, each once.
func (s *Sockets) Names() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var names []string
	for _, k := range s.list {
		names = append(names, k.name)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// Listeners returns a new listener for each stream socket of that name, none if there is none.
// Closing one leaves the socket itself open. Errors: *SocketError.
func (s *Sockets) Listeners(name string) ([]net.Listener, error) {
	return open(s, name, unix.SOCK_STREAM, net.FileListener)
}

// PacketConns is Listeners for datagram sockets.
func (s *Sockets) PacketConns(name string) ([]net.PacketConn, error) {
	return open(s, name, unix.SOCK_DGRAM, net.FilePacketConn)
}

func open[T any](s *Sockets, name string, kind int, from func(*os.File) (T, error)) ([]T, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []T
	for _, k := range s.list {
		if k.name != name || k.kind != kind {
			continue
		}
		f, err := duplicate(k)
		if err != nil {
			return out, &SocketError{Name: name, Err: err}
		}
		v, err := from(f)
		f.Close()
		if err != nil {
			return out, &SocketError{Name: name, Err: err}
		}
		out = append(out, v)
	}
	return out, nil
}

// duplicate returns a file that stays in non-blocking mode even when its Fd is asked for,
// unlike the one that (*net.TCPListener).File returns.
func duplicate(k socket) (*os.File, error) {
	fd, err := unix.FcntlInt(uintptr(k.fd), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), k.name), nil
}

// Listen returns the listeners of the stream sockets of that name. Where none is held it binds
// one to address, which is then held under the name. Errors: *SocketError.
func (s *Sockets) Listen(name, network, address string) ([]net.Listener, error) {
	held, err := s.Listeners(name)
	if err != nil || len(held) > 0 {
		return held, err
	}
	var lc net.ListenConfig
	ln, err := lc.Listen(context.Background(), network, address)
	if err != nil {
		return nil, &SocketError{name, network, address, err}
	}
	defer ln.Close()
	if err := s.bind(name, ln); err != nil {
		return nil, &SocketError{name, network, address, err}
	}
	return s.Listeners(name)
}

// ListenPacket is Listen for datagram sockets.
func (s *Sockets) ListenPacket(name, network, address string) ([]net.PacketConn, error) {
	held, err := s.PacketConns(name)
	if err != nil || len(held) > 0 {
		return held, err
	}
	var lc net.ListenConfig
	pc, err := lc.ListenPacket(context.Background(), network, address)
	if err != nil {
		return nil, &SocketError{name, network, address, err}
	}
	defer pc.Close()
	if err := s.bind(name, pc); err != nil {
		return nil, &SocketError{name, network, address, err}
	}
	return s.PacketConns(name)
}

// bind holds the socket of v, a *net.TCPListener, *net.UDPConn or their like.
func (s *Sockets) bind(name string, v any) error {
	if strings.ContainsAny(name, ": \n") || name == "" {
		return errors.New("a socket's name must have no colon and no blank")
	}
	sc, ok := v.(interface {
		SyscallConn() (syscall.RawConn, error)
	})
	if !ok {
		return fmt.Errorf("%T has no descriptor", v)
	}
	rc, err := sc.SyscallConn()
	if err != nil {
		return err
	}
	var kept error
	err = rc.Control(func(fd uintptr) {
		var own int
		if own, kept = unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 3); kept == nil {
			kept = s.keep(name, own)
		}
	})
	return errors.Join(err, kept)
}

// Release gives up every socket of that name: once its listeners are closed too and no other
// process holds it, the port is free. It reports whether there was one.
func (s *Sockets) Release(name string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	before := len(s.list)
	s.list = slices.DeleteFunc(s.list, func(k socket) bool {
		if k.name == name {
			unix.Close(k.fd)
		}
		return k.name == name
	})
	return len(s.list) < before
}

// Close gives up every socket. After a hand-over the predecessor must, or a port that the
// successor releases stays open with nobody accepting until the predecessor has drained.
func (s *Sockets) Close() {
	for _, name := range s.Names() {
		s.Release(name)
	}
}
