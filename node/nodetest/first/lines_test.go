package first_test

import (
	"bufio"
	"io"
	"strconv"
	"strings"
)

// scan sends each line of a stream, until its end.
func scan(from io.Reader, lines chan<- string) {
	defer close(lines)
	for s := bufio.NewScanner(from); s.Scan(); {
		lines <- s.Text()
	}
}

func lastLine(text string) string {
	text = strings.TrimSpace(text)
	return text[strings.LastIndexByte(text, '\n')+1:]
}

func itoa(n int64) string { return strconv.FormatInt(n, 10) }
