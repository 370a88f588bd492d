package oci

import (
	"hash"
	"io"
)

// readAhead decompresses and hashes on one core while the other writes files.
type readAhead struct {
	chunks chan chunk
	free   chan []byte
	quit   chan struct{}
	whole  []byte // the chunk being read, to give back
	rest   []byte // what is left of it
	err    error
}

type chunk struct {
	body []byte
	err  error
}

const (
	aheadChunk  = 256 << 10
	aheadChunks = 4
)

// newReadAhead reads r to its end in a goroutine that stop ends; sum has seen every byte once Read
// says io.EOF.
func newReadAhead(r io.Reader, sum hash.Hash) *readAhead {
	a := &readAhead{chunks: make(chan chunk, aheadChunks), free: make(chan []byte, aheadChunks), quit: make(chan struct{})}
	for range aheadChunks {
		a.free <- make([]byte, aheadChunk)
	}
	go a.run(r, sum)
	return a
}

func (a *readAhead) run(r io.Reader, sum hash.Hash) {
	defer close(a.chunks)
	for {
		var buf []byte
		select {
		case buf = <-a.free:
		case <-a.quit:
			return
		}
		n, err := fillUp(r, buf)
		sum.Write(buf[:n])
		a.chunks <- chunk{buf[:n], err} // never blocks: there are no more chunks than places
		if err != nil {
			return
		}
	}
}

// fillUp reads until buf is full. Unlike io.ReadFull it passes on the reader's own error, which
// tells a stream's end from one cut short.
func fillUp(r io.Reader, buf []byte) (int, error) {
	n := 0
	for n < len(buf) {
		m, err := r.Read(buf[n:])
		n += m
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

func (a *readAhead) Read(p []byte) (int, error) {
	for len(a.rest) == 0 {
		if a.err != nil {
			return 0, a.err
		}
		a.next()
	}
	n := copy(p, a.rest)
	a.rest = a.rest[n:]
	return n, nil
}

func (a *readAhead) next() {
	if a.whole != nil {
		a.free <- a.whole
	}
	c := <-a.chunks
	a.whole, a.rest, a.err = c.body[:cap(c.body)], c.body, c.err
}

// stop ends the goroutine and waits for it, so that what it reads can be closed.
func (a *readAhead) stop() {
	close(a.quit)
	for range a.chunks {
	}
}
