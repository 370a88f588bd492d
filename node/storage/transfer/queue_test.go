package transfer

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"testing"
	"testing/iotest"
)

// fillWith pushes content in pieces, until nobody wants them.
func fillWith(q *queue, content []byte, why error) {
	for len(content) > 0 {
		n := min(1+rand.IntN(maxPayloadBytes), len(content))
		chunk := q.room(n)
		copy(chunk, content)
		content = content[n:]
		if q.push(chunk) != nil {
			break
		}
	}
	q.end(why)
}

func TestQueueKeepsOrder(t *testing.T) {
	content := make([]byte, 3*queueChunks*maxPayloadBytes/2)
	for i := range content {
		content[i] = byte(i ^ i>>8 ^ i>>16)
	}
	for name, read := range map[string]func(q *queue) ([]byte, error){
		"by reads":  func(q *queue) ([]byte, error) { return io.ReadAll(onlyReader{q}) },
		"by halves": func(q *queue) ([]byte, error) { return io.ReadAll(iotest.HalfReader(q)) },
		"by writes": func(q *queue) ([]byte, error) {
			var b bytes.Buffer
			_, err := q.WriteTo(&b)
			return b.Bytes(), err
		},
	} {
		q := newQueue()
		go fillWith(q, content, nil)
		got, err := read(q)
		if err != nil || !bytes.Equal(got, content) {
			t.Errorf("%s: %d bytes of %d, %v", name, len(got), len(content), err)
		}
		if q.made > queueChunks {
			t.Errorf("%s: %d chunks were made", name, q.made)
		}
	}
}

// onlyReader hides WriteTo.
type onlyReader struct{ io.Reader }

func TestQueueTellsWhyItEnded(t *testing.T) {
	cut := errors.New("the cable was cut")
	q := newQueue()
	fillWith(q, []byte("some bytes"), cut)
	if got, err := io.ReadAll(q); string(got) != "some bytes" || !errors.Is(err, cut) || !errors.Is(q.reason(), cut) {
		t.Errorf("%q, %v", got, err)
	}
}

// TestQueueLeftBehind: a reader that goes away frees who fills, and what ends the filling then is no reason.
func TestQueueLeftBehind(t *testing.T) {
	q, filled := newQueue(), make(chan struct{})
	go func() {
		defer close(filled)
		fillWith(q, make([]byte, 4*queueChunks*maxPayloadBytes), errors.New("the other side went too"))
	}()
	if _, err := io.ReadFull(q, make([]byte, 10)); err != nil {
		t.Fatal(err)
	}
	q.close()
	q.close()
	<-filled
	if q.reason() != nil {
		t.Error(q.reason())
	}
}
