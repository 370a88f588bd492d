package natsstore_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"testing"
)

// ackEater is a proxy before a NATS server that lets everything through but the acknowledgement
// of a stored message: what a write looks like whose answer is lost.
func ackEater(t *testing.T, url string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("tcp", strings.TrimPrefix(url, "nats://"))
			if err != nil {
				_ = client.Close()
				continue
			}
			go pipe(server, client)
			go eatAcks(client, server)
		}
	}()
	return l.Addr().String()
}

func pipe(to, from net.Conn) {
	_, _ = io.Copy(to, from)
	_ = to.Close()
}

func eatAcks(client, server net.Conn) {
	defer client.Close()
	in := bufio.NewReaderSize(server, 1<<20)
	for {
		line, err := in.ReadBytes('\n')
		if err != nil {
			return
		}
		var payload []byte
		if words := strings.Fields(string(line)); len(words) > 0 && (words[0] == "MSG" || words[0] == "HMSG") {
			n, err := strconv.Atoi(words[len(words)-1])
			if err != nil {
				panic(fmt.Sprintf("proxy: %q", line))
			}
			payload = make([]byte, n+2)
			if _, err := io.ReadFull(in, payload); err != nil {
				return
			}
		}
		if bytes.HasPrefix(payload, []byte(`{"stream":`)) {
			continue
		}
		if _, err := client.Write(append(line, payload...)); err != nil {
			return
		}
	}
}
