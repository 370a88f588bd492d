// Command probe is the small program that labtest puts into labs. Its first argument says what it plays:
//
//	wire     a bad line, as `ployzctl dev wire` does: wire MACHINE PORT LINE
//	load     the generator of node/nodetest/load: plan on standard input, report on standard output
//	listen   listen PORT: answers TCP and UDP on a port of every address, and prints each datagram's text
//	ask      ask TEXT NETWORK=ADDRESS...: sends a text to all at once and prints the networks that answered
package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"time"

	"github.com/ployz/ployz/cmd/ployzctl/dev/wire"
	"github.com/ployz/ployz/node/nodetest/load"
)

// patience is how long an answer may take: far more than a lab's network needs, but for bad lines.
const patience = 500 * time.Millisecond

func main() {
	if err := play(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "probe:", err)
		os.Exit(1)
	}
}

func play(args []string) error {
	switch {
	case len(args) == 4 && args[0] == "wire":
		return wire.Main(args[1], args[2], args[3])
	case len(args) == 1 && args[0] == "load":
		return load.Main(os.Stdin, os.Stdout)
	case len(args) == 2 && args[0] == "listen":
		return listen(":" + args[1])
	case len(args) > 2 && args[0] == "ask":
		return askAll(args[1], args[2:])
	}
	return errors.New("wire, load, listen or ask")
}

func listen(address string) error {
	packets, err := net.ListenPacket("udp", address)
	if err != nil {
		return err
	}
	lines, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	go answer(packets)
	for {
		conn, err := lines.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer conn.Close()
			io.Copy(conn, conn) // the peer's end is the end
		}()
	}
}

// answer prints each datagram and sends it back.
func answer(packets net.PacketConn) {
	buffer := make([]byte, 1500)
	for {
		n, from, err := packets.ReadFrom(buffer)
		if err != nil {
			fmt.Fprintln(os.Stderr, "probe:", err)
			os.Exit(1)
		}
		fmt.Println(string(buffer[:n]))
		packets.WriteTo(buffer[:n], from) // whether it arrives is what the asker finds out
	}
}

// askAll prints the networks in the order given.
func askAll(text string, targets []string) error {
	answered := make([]chan bool, len(targets))
	for i, target := range targets {
		network, address, found := strings.Cut(target, "=")
		if !found {
			return fmt.Errorf("%q is no NETWORK=ADDRESS", target)
		}
		answered[i] = make(chan bool, 1)
		go func() { answered[i] <- ask(network, address, text) == nil }()
	}
	var heard []string
	for i, target := range targets {
		if <-answered[i] {
			network, _, _ := strings.Cut(target, "=")
			heard = append(heard, network)
		}
	}
	fmt.Println(strings.Join(heard, " "))
	return nil
}

func ask(network, address, text string) error {
	conn, err := net.DialTimeout(network, address, patience)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	if _, err := io.WriteString(conn, text); err != nil {
		return err
	}
	_, err = io.ReadFull(conn, make([]byte, len(text)))
	return err
}
