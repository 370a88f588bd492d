package gateway

import (
	"bytes"
	"io"
	"net"
	"strings"
	"sync/atomic"
)

// sentry watches the bytes of an HTTP/1 connection on their way to net/http and stops a request
// whose end two programs could see at different places: both Transfer-Encoding and
// Content-Length, either of them twice, any encoding but "chunked", an encoding on HTTP/1.0,
// bare line feeds, folded lines, blanks before the colon. net/http repairs some of these
// silently, which is right for an origin and wrong for something that stands before others.
//
// It changes nothing in requests it lets pass. A header line goes on only when it is whole and
// good. At the first bad one the stream is cut off and the header section ended with a marker
// field, from which ServeHTTP takes the reason for its 400; neither the bad line nor anything
// after it is ever interpreted. In a chunked body, reading fails with a framingError instead.
type sentry struct {
	net.Conn
	tracked *tracked
	marker  string // secret name of the marker field

	open    atomic.Bool // after an upgrade: the bytes are not HTTP any more
	stage   stage
	line    []byte // start of a line whose end has not come yet; held back but for a request line
	left    int64  // bytes left of the body or chunk
	request requestFraming
	pending []byte                       // to be delivered before anything else is read
	cut     error                        // what every Read returns once pending is delivered; nil while all is well
	badBody atomic.Pointer[framingError] // why a body was cut; set before Read returns
}

type stage int

const (
	inRequestLine stage = iota
	inHeader
	inBody      // left bytes of a body with Content-Length
	inChunkSize // line
	inChunk     // left bytes, then inChunkEnd
	inChunkEnd  // the line end after a chunk's bytes
	inTrailer
)

// requestFraming is what the header section said so far.
type requestFraming struct {
	http11  bool
	length  int64
	lengths int
	chunked bool
}

// maxLine bounds a header line; the server's own limit for the whole section is lower by default.
const maxLine = 256 << 10

// framingError is returned by Read, and so by the reader of a request's body, where the chunks are malformed.
type framingError struct{ reason string }

func (e *framingError) Error() string { return "gateway: request framing: " + e.reason }

func (c *sentry) Read(p []byte) (int, error) {
	for {
		if len(c.pending) > 0 {
			n := copy(p, c.pending)
			c.pending = c.pending[n:]
			return n, nil
		}
		if c.cut != nil {
			return 0, c.cut
		}
		n, err := c.Conn.Read(p)
		if c.open.Load() || n == 0 {
			return n, err
		}
		held := len(c.line)
		if c.stage == inRequestLine {
			held = 0
		}
		before := c.line[:held:held]
		good, why := c.scan(p[:n])
		if why != "" {
			c.stop(why)
		}
		if good > 0 && held == 0 {
			return good, err
		}
		if good > 0 {
			c.pending = append(append(before, p[:good]...), c.pending...)
		}
		if err != nil && len(c.pending) == 0 {
			return 0, err
		}
	}
}

// stop ends the stream; in the header section with the marker, in a body with an error.
func (c *sentry) stop(why string) {
	if c.stage <= inHeader {
		c.cut = io.EOF
		c.pending = []byte(c.marker + ": " + why + "\r\n\r\n")
		return
	}
	e := &framingError{why}
	c.badBody.Store(e)
	c.cut = e
}

// CloseWrite lets net/http end a connection without a reset while the client still sends.
func (c *sentry) CloseWrite() error {
	if h, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return h.CloseWrite()
	}
	return nil
}

// scan follows b through the stages. It returns how many bytes of b may be passed on, not
// counting what is held back in c.line; and why the rest must not be, if that is so.
func (c *sentry) scan(b []byte) (int, string) {
	at := 0
	for at < len(b) {
		if c.stage == inBody || c.stage == inChunk {
			n := min(c.left, int64(len(b)-at))
			c.left -= n
			at += int(n)
			if c.left == 0 {
				c.afterBytes()
			}
			continue
		}
		end := bytes.IndexByte(b[at:], '\n')
		if end < 0 {
			return c.hold(b, at)
		}
		line := b[at : at+end+1]
		if len(c.line) > 0 {
			line = append(c.line, line...)
			c.line = nil
		}
		first := c.stage == inRequestLine
		why := c.takeLine(line)
		if why != "" && !first {
			return at, why
		}
		at += end + 1
		if why != "" {
			c.stage = inHeader // the line is harmless by itself, and the marker needs it
			return at, why
		}
	}
	return at, ""
}

// hold keeps the start of a line from b[at:]. Of a request line it keeps a copy only: net/http
// starts the clock for the header when it sees the first bytes.
func (c *sentry) hold(b []byte, at int) (int, string) {
	c.line = append(c.line, b[at:]...)
	if len(c.line) > maxLine {
		return at, "line too long"
	}
	if c.stage == inRequestLine {
		return len(b), ""
	}
	return at, ""
}

func (c *sentry) afterBytes() {
	if c.stage == inChunk {
		c.stage = inChunkEnd
	} else {
		c.stage = inRequestLine
	}
}

// takeLine moves to the next stage by one whole line including its end.
func (c *sentry) takeLine(line []byte) string {
	text, ok := bytes.CutSuffix(line, []byte("\r\n"))
	if !ok || bytes.IndexByte(text, '\r') >= 0 || bytes.IndexByte(text, 0) >= 0 {
		return "line does not end in CR LF, or has a CR or NUL in it"
	}
	switch c.stage {
	case inRequestLine:
		c.request = requestFraming{http11: bytes.HasSuffix(text, []byte(" HTTP/1.1"))}
		c.stage = inHeader
	case inHeader:
		if len(text) == 0 {
			return c.endHeader()
		}
		return c.request.field(text)
	case inChunkSize:
		return c.chunkSize(text)
	case inChunkEnd:
		if len(text) != 0 {
			return "chunk is longer than its size"
		}
		c.stage = inChunkSize
	case inTrailer:
		return c.trailer(text)
	}
	return ""
}

// endHeader is reached only with a section in which every field was acceptable.
func (c *sentry) endHeader() string {
	switch {
	case c.request.chunked:
		c.stage = inChunkSize
	case c.request.length > 0:
		c.left, c.stage = c.request.length, inBody
	default:
		c.stage = inRequestLine
	}
	return ""
}

func (r *requestFraming) field(text []byte) string {
	name, value, ok := bytes.Cut(text, []byte(":"))
	if !ok || len(name) == 0 || !isToken(name) {
		return "header line is folded, or its name is empty or no token"
	}
	switch {
	case len(name) == len("Content-Length") && strings.EqualFold(string(name), "Content-Length"):
		return r.contentLength(bytes.Trim(value, " \t"))
	case len(name) == len("Transfer-Encoding") && strings.EqualFold(string(name), "Transfer-Encoding"):
		return r.transferEncoding(bytes.Trim(value, " \t"))
	}
	return ""
}

func (r *requestFraming) contentLength(value []byte) string {
	r.lengths++
	n, ok := number(value, 10)
	switch {
	case r.lengths > 1:
		return "Content-Length is there twice"
	case r.chunked:
		return "both Transfer-Encoding and Content-Length"
	case !ok:
		return "Content-Length is no number"
	}
	r.length = n
	return ""
}

func (r *requestFraming) transferEncoding(value []byte) string {
	switch {
	case r.chunked:
		return "Transfer-Encoding is there twice"
	case r.lengths > 0:
		return "both Transfer-Encoding and Content-Length"
	case !r.http11:
		return "Transfer-Encoding before version 1.1"
	case !strings.EqualFold(string(value), "chunked"):
		return "Transfer-Encoding is not chunked"
	}
	r.chunked = true
	return ""
}

func (c *sentry) chunkSize(text []byte) string {
	size, _, _ := bytes.Cut(text, []byte(";"))
	n, ok := number(bytes.TrimRight(size, " \t"), 16)
	switch {
	case !ok:
		return "chunk size is no hexadecimal number"
	case n == 0:
		c.stage = inTrailer
	default:
		c.left, c.stage = n, inChunk
	}
	return ""
}

func (c *sentry) trailer(text []byte) string {
	if len(text) == 0 {
		c.stage = inRequestLine
		return ""
	}
	name, _, ok := bytes.Cut(text, []byte(":"))
	if !ok || len(name) == 0 || !isToken(name) {
		return "trailer line is folded, or its name is empty or no token"
	}
	return ""
}

// number parses digits only: no sign, no blank, no prefix, and nothing that nears overflow.
func number(b []byte, base int64) (int64, bool) {
	if len(b) == 0 || len(b) > 15 {
		return 0, false
	}
	var n int64
	for _, ch := range b {
		d := digit(ch)
		if d < 0 || d >= base {
			return 0, false
		}
		n = n*base + d
	}
	return n, true
}

func digit(ch byte) int64 {
	switch {
	case ch >= '0' && ch <= '9':
		return int64(ch - '0')
	case ch|0x20 >= 'a' && ch|0x20 <= 'f':
		return int64(ch|0x20-'a') + 10
	}
	return -1
}

func isToken(name []byte) bool {
	for _, ch := range name {
		if ch <= ' ' || ch >= 0x7f || strings.IndexByte(`"(),/:;<=>?@[\]{}`, ch) >= 0 {
			return false
		}
	}
	return true
}
