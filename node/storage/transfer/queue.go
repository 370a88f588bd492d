package transfer

import (
	"errors"
	"io"
	"sync"
)

// queueChunks bounds what waits between the connection and the pool, 16 MiB: the pool of a busy machine pauses for some
// hundred milliseconds when it commits, and the connection should not.
const queueChunks = 64

var errNotWanted = errors.New("nobody reads the stream any more")

// queue hands chunks from the connection to the pool that receives. One goroutine fills, and one reads it; the
// reader may be left behind by a pool that has ended, so a chunk belongs to one of them at a time.
type queue struct {
	full chan []byte
	free chan []byte
	gone chan struct{} // closed once nobody reads

	mu   sync.Mutex
	left bool  // guarded by mu
	why  error // guarded by mu; set before full is closed

	current []byte // what the reader has of the chunk that it has taken
	taken   []byte // that chunk
	made    int    // by the filler
}

func newQueue() *queue {
	return &queue{full: make(chan []byte, queueChunks), free: make(chan []byte, queueChunks), gone: make(chan struct{})}
}

// room is a chunk to fill. Once nobody reads any more it is one that nobody will see.
func (q *queue) room(length int) []byte {
	if q.made < queueChunks {
		select {
		case chunk := <-q.free:
			return chunk[:length]
		default:
			q.made++
			return make([]byte, maxPayloadBytes)[:length]
		}
	}
	select {
	case chunk := <-q.free:
		return chunk[:length]
	case <-q.gone:
		return make([]byte, length)
	}
}

// push hands a chunk over, or says that it is not wanted.
func (q *queue) push(chunk []byte) error {
	select {
	case <-q.gone:
		return errNotWanted
	default:
	}
	select {
	case q.full <- chunk:
		return nil
	case <-q.gone:
		return errNotWanted
	}
}

// end says that no more comes: the stream is whole (nil), or why it is not.
func (q *queue) end(why error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.left {
		q.why = why
	}
	close(q.full)
}

// close says that nobody reads any more.
func (q *queue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.left {
		q.left = true
		close(q.gone)
	}
}

// reason is why the stream is not whole, if that came before nobody wanted it any more.
func (q *queue) reason() error {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.why
}

// more takes the next chunk.
func (q *queue) more() error {
	if q.taken != nil {
		q.free <- q.taken[:cap(q.taken)] // there is room: no more were made than it holds
		q.taken = nil
	}
	select {
	case chunk, ok := <-q.full:
		if ok {
			q.taken, q.current = chunk, chunk
			return nil
		}
		if why := q.reason(); why != nil {
			return why
		}
		return io.EOF
	case <-q.gone:
		return errNotWanted
	}
}

// Read implements io.Reader.
func (q *queue) Read(p []byte) (int, error) {
	for len(q.current) == 0 {
		if err := q.more(); err != nil {
			return 0, err
		}
	}
	n := copy(p, q.current)
	q.current = q.current[n:]
	return n, nil
}

// WriteTo implements io.WriterTo: a chunk goes to the pool's program in one write.
func (q *queue) WriteTo(w io.Writer) (total int64, err error) {
	for {
		for len(q.current) > 0 {
			n, err := w.Write(q.current)
			q.current, total = q.current[n:], total+int64(n)
			if err != nil {
				return total, err
			}
		}
		if err := q.more(); errors.Is(err, io.EOF) {
			return total, nil
		} else if err != nil {
			return total, err
		}
	}
}
