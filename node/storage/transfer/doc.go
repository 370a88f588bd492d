// Package transfer carries a volume's snapshots from one machine's pool to another's over a byte connection. The
// pool makes the stream (storage.Streams); what is here is the wire around it. It needs a connection that
// keeps its order, such as TCP, and never looks into a stream or decides who may have one: that is done before
// there is a connection (Desk).
//
// # The conversation
//
//	receiver                                  sender
//	    │ "ployz transfer 1\n"  ◄──────► "ployz transfer 1\n" │
//	    │ want: backend, GUIDs here, partial ────────► │
//	    │ ◄──── plan: the streams, their bases and sizes │  nothing has moved so far; either
//	    │ go ─────────────────────────────────────────► │  side refuses here, with the reason
//	    │ ◄───────────────────────────────── data, data… │
//	    │ ◄──────────────────────────── end: bytes sent │  once for each stream
//	    │ receipt: GUID as the pool here has it ───────► │
//
// Either side may say refuse (an api.Error) at any moment, which ends the transfer at both, and each says beat
// while it has nothing else to say: silence is how a machine that lost its power is told from a slow disk.
//
// # Frames
//
//	kind   1 byte
//	length 4 bytes, of the payload, at most 256 KiB
//	sum    4 bytes, CRC-32C of the payload
//	sum    4 bytes, CRC-32C of the frame's number (8 bytes, not sent) and the nine bytes before
//	payload
//
// Numbers are big endian. The head has a sum of its own, so that a flipped bit in a length is found at once and not
// after as many bytes as it claims. The overlay encrypts and authenticates; the sums are against memory and
// programs that fail.
//
// # What a break leaves
//
// Snapshots that arrived whole stay, with the GUID compared on both sides. Of a broken one the pool
// keeps what it can go on with (storage.Streams.Partial) or nothing, and the next transfer begins there. The
// receiving pool takes one stream of a volume at a time, so a transfer that the other side still believes in is
// refused (volume.in-use) until its silence has been noticed.
package transfer
