package api

import (
	"slices"
	"time"
)

// Rounded is a duration as a person reads it: a measured one has nine digits, of which three say something.
func Rounded(d time.Duration) time.Duration {
	switch size := d.Abs(); {
	case size < time.Millisecond:
		return d.Round(time.Microsecond)
	case size < time.Second:
		return d.Round(time.Millisecond)
	case size < 10*time.Second:
		return d.Round(10 * time.Millisecond)
	case size < time.Minute:
		return d.Round(100 * time.Millisecond)
	}
	return d.Round(time.Second)
}

// rounded is what a message is made of, with its durations Rounded.
func rounded(args []any) []any {
	args = slices.Clone(args)
	for i, arg := range args {
		switch d := arg.(type) {
		case time.Duration:
			args[i] = Rounded(d)
		case Duration:
			args[i] = Duration(Rounded(time.Duration(d)))
		}
	}
	return args
}
