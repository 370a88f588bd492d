package runtimetest

import (
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// The words here take what limits are about: processor time, memory, processes.

func burn(arg string) error {
	long, err := time.ParseDuration(arg)
	if err != nil {
		return err
	}
	before, err := processorTime()
	if err != nil {
		return err
	}
	for began := time.Now(); time.Since(began) < long; {
	}
	after, err := processorTime()
	fmt.Println("burnt", (after - before).Round(time.Millisecond))
	return err
}

func processorTime() (time.Duration, error) {
	var u unix.Rusage
	err := unix.Getrusage(unix.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()), err
}

func eat(arg string) error {
	mebibytes, err := strconv.Atoi(arg)
	if err != nil {
		return err
	}
	plate := make([]byte, mebibytes<<20)
	for i := 0; i < len(plate); i += os.Getpagesize() {
		plate[i] = 1
	}
	fmt.Println("ate", len(plate)>>20)
	return nil
}

// fork starts children of the same program that wait; a refusal is what is counted, and no error.
func fork(arg string) error {
	wanted, err := strconv.Atoi(arg)
	if err != nil {
		return err
	}
	var children []*exec.Cmd
	for range wanted {
		child := exec.Command("/proc/self/exe", "serve")
		child.Args[0] = "program"
		if child.Start() != nil {
			break
		}
		children = append(children, child)
	}
	fmt.Println("forked", len(children))
	for _, child := range children {
		if err := child.Process.Kill(); err != nil {
			return err
		}
		child.Wait() //nolint:errcheck // it was killed
	}
	return nil
}
