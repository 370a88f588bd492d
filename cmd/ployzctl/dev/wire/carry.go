package wire

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// maxFrame holds the largest segment that a kernel leaves to the network card, and its headers.
const maxFrame = 1<<16 + 256

// maxWaiting is how many packets of a direction wait at most; more are lost, as in any queue.
const maxWaiting = 16384

// Main carries frames between the cable of a machine and the TAP device port until it is killed. A
// cable that vanishes, as it does when its machine reboots, is waited for.
func Main(machine, port, line string) error {
	l, err := ParseLine(line)
	if err != nil {
		return err
	}
	tap, err := openTAP(port)
	if err != nil {
		return fmt.Errorf("the TAP device %s: %w", port, err)
	}
	bridge, cable := &device{fd: tap}, &device{fd: -1}
	toMachine, toBridge := newQueue(l, cable.write), newQueue(l, bridge.write)
	go readFrames(tap, toMachine.add)
	for ; ; time.Sleep(10 * time.Millisecond) {
		fd, err := openCable(machine)
		if err != nil {
			continue // the machine is off
		}
		cable.replace(fd)
		readFrames(fd, toBridge.add)
	}
}

// device is one end of the wire.
type device struct {
	mu sync.Mutex
	fd int // guarded by mu; -1 is none
}

// write sends a frame. One that the device does not take is lost, as on any network.
func (d *device) write(frame []byte) {
	d.mu.Lock()
	defer d.mu.Unlock()
	_, _ = unix.Write(d.fd, frame)
}

// replace closes what was there before.
func (d *device) replace(fd int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.fd >= 0 {
		unix.Close(d.fd) // nothing is kept in it
	}
	d.fd = fd
}

// readFrames reads until the device is gone.
func readFrames(fd int, each func(frame []byte)) {
	buffer := make([]byte, maxFrame)
	for {
		n, err := unix.Read(fd, buffer)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return
		default:
			each(append([]byte(nil), buffer[:n]...))
		}
	}
}

// queue is one direction of a cable.
type queue struct {
	line    Line
	random  *rand.Rand
	waiting chan packet
	send    func(frame []byte)
}

type packet struct {
	frame []byte
	due   time.Time
}

func newQueue(l Line, send func(frame []byte)) *queue {
	q := &queue{line: l, random: rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64())), waiting: make(chan packet, maxWaiting), send: send}
	go q.run()
	return q
}

// add takes a frame in, or loses it.
func (q *queue) add(frame []byte) {
	f := q.line.draw(q.random)
	switch {
	case f.lost:
	case f.overtakes:
		q.send(frame)
	default:
		select {
		case q.waiting <- packet{frame, time.Now().Add(f.after)}:
		default:
		}
	}
}

// run sends each frame at its time, and none before the one that came earlier.
func (q *queue) run() {
	for p := range q.waiting {
		time.Sleep(time.Until(p.due))
		q.send(p.frame)
	}
}

// openTAP attaches to a TAP device that is there.
func openTAP(name string) (int, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	request, err := unix.NewIfreq(name)
	if err != nil {
		return 0, err
	}
	request.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI | unix.IFF_VNET_HDR)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, request); err != nil {
		return 0, err
	}
	return fd, unix.IoctlSetInt(fd, unix.TUNSETOFFLOAD, unix.TUN_F_CSUM|unix.TUN_F_TSO4|unix.TUN_F_TSO6)
}

// openCable opens a packet socket on a device, for what comes in there and not for what goes out.
func openCable(name string) (fd int, err error) {
	device, err := net.InterfaceByName(name)
	if err != nil {
		return 0, err
	}
	// Protocol 0 hears nothing, so that nothing of other devices comes in before the bind.
	fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	every := uint16(unix.ETH_P_ALL>>8 | unix.ETH_P_ALL<<8&0xff00)
	err = errors.Join(
		unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_VNET_HDR, 1),
		unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1),
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 16<<20),
		unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: every, Ifindex: device.Index}))
	if err != nil {
		unix.Close(fd)
	}
	return fd, err
}
