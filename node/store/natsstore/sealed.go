package natsstore

import (
	"bufio"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
)

// A backup's file is a line of text that says what it is, entries, and a seal: the hash of all before
// it. An entry is a length and a name, a length and bytes; the seal is an entry too. Nothing may follow it.
const (
	sealedLine   = "ployz store backup\n"
	partFacts    = "facts"
	partLedger   = "ledger"
	partManifest = "manifest.json"
	partSeal     = "seal"
	// The most that an entry may claim, so that damage does not ask for memory.
	maxPartName  = 64
	maxPartBytes = 4 << 20
)

// sealedWriter writes entries and hashes what it wrote.
type sealedWriter struct {
	w    io.Writer
	hash hash.Hash
}

func newSealedWriter(w io.Writer) (*sealedWriter, error) {
	s := &sealedWriter{hash: sha256.New()}
	s.w = io.MultiWriter(w, s.hash)
	_, err := io.WriteString(s.w, sealedLine)
	return s, err
}

func (s *sealedWriter) entry(name string, content []byte) error {
	head := binary.AppendUvarint(nil, uint64(len(name)))
	head = append(head, name...)
	head = binary.AppendUvarint(head, uint64(len(content)))
	if _, err := s.w.Write(head); err != nil {
		return err
	}
	_, err := s.w.Write(content)
	return err
}

// seal ends the file and returns its digest.
func (s *sealedWriter) seal() (string, error) {
	sum := s.hash.Sum(nil)
	return "sha256:" + hex.EncodeToString(sum), s.entry(partSeal, sum)
}

var errCutShort = errors.New("it is cut short")

// readSealed hands out all entries but the seal, and returns the digest. What it handed out counts only once
// it returned without an error. Errors: store.backup-damaged, store.backup-foreign.
func readSealed(r io.Reader, each func(name string, content []byte) error) (string, error) {
	sum := sha256.New()
	in := bufio.NewReader(r)
	line := make([]byte, len(sealedLine))
	if _, err := io.ReadFull(in, line); err != nil || string(line) != sealedLine {
		return "", foreign("it does not begin as one")
	}
	sum.Write(line)
	for {
		before := sum.Sum(nil)
		name, content, err := readEntry(in, sum)
		if err != nil {
			return "", damaged(err)
		}
		if name == partSeal {
			return sealed(in, before, content)
		}
		if err := each(name, content); err != nil {
			return "", damaged(err)
		}
	}
}

func sealed(in *bufio.Reader, sum, seal []byte) (string, error) {
	if string(sum) != string(seal) {
		return "", damaged(fmt.Errorf("its content has the digest %x, its seal says %x", sum, seal))
	}
	if _, err := in.ReadByte(); err != io.EOF {
		return "", damaged(errors.New("something follows its end"))
	}
	return "sha256:" + hex.EncodeToString(sum), nil
}

func readEntry(in *bufio.Reader, sum hash.Hash) (string, []byte, error) {
	name, err := readSized(in, sum, maxPartName)
	if err != nil {
		return "", nil, err
	}
	content, err := readSized(in, sum, maxPartBytes)
	return string(name), content, err
}

func readSized(in *bufio.Reader, sum hash.Hash, most uint64) ([]byte, error) {
	size, err := binary.ReadUvarint(in)
	if err != nil {
		return nil, errCutShort
	}
	if size > most {
		return nil, fmt.Errorf("a part of it claims %d bytes", size)
	}
	sum.Write(binary.AppendUvarint(nil, size))
	out := make([]byte, size)
	if _, err := io.ReadFull(in, out); err != nil {
		return nil, errCutShort
	}
	sum.Write(out)
	return out, nil
}
