package runtimetest

import (
	"fmt"
	"io"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Main is the workload: main of node/runtime/runtimetest/program, which a test builds into an
// image as /program. Its arguments are words that it acts on in order:
//
//	say=TEXT     prints TEXT to standard output
//	err=TEXT     prints TEXT to standard error
//	env=NAME     prints NAME=value
//	cat=PATH     prints the file's content, or "PATH: error"
//	write=PATH   creates the file, or prints "PATH: error"
//	grow=PATH    appends one byte to the file and prints its size
//	id           prints uid, gid, effective capabilities, no-new-privileges and seccomp mode
//	echo         copies standard input to standard output until its end
//	tty          prints whether standard input is a terminal, and its size
//	burn=TIME    computes for so long, and prints how much processor time it got in that: "burnt 180ms"
//	eat=MIB      takes so much memory, and prints "ate"
//	fork=N       starts N processes that wait, prints how many could be: "forked 12", and ends them
//	exit=N       ends with status N
//	deaf         ignores SIGTERM from here on
//	serve        waits until SIGTERM and ends with status 0
func Main(args []string) {
	for _, word := range args {
		verb, arg, _ := strings.Cut(word, "=")
		act(verb, arg)
	}
}

func act(verb, arg string) {
	switch verb {
	case "say":
		fmt.Println(arg)
	case "err":
		fmt.Fprintln(os.Stderr, arg)
	case "env":
		fmt.Println(arg + "=" + os.Getenv(arg))
	case "echo":
		if _, err := io.Copy(os.Stdout, os.Stdin); err != nil {
			fmt.Println("echo: error")
		}
	case "exit":
		n, err := strconv.Atoi(arg)
		if err != nil {
			n = 99
		}
		os.Exit(n)
	case "deaf":
		signal.Ignore(syscall.SIGTERM)
	case "serve":
		c := make(chan os.Signal, 1)
		signal.Notify(c, syscall.SIGTERM)
		<-c
		os.Exit(0)
	default:
		look(verb, arg)
	}
}

func look(verb, arg string) {
	var err error
	switch verb {
	case "cat":
		var text []byte
		text, err = os.ReadFile(arg)
		os.Stdout.Write(text)
	case "write":
		err = os.WriteFile(arg, nil, 0o644)
	case "grow":
		err = grow(arg)
	case "id":
		err = printIdentity()
	case "burn":
		err = burn(arg)
	case "eat":
		err = eat(arg)
	case "fork":
		err = fork(arg)
	case "tty":
		size, sizeErr := unix.IoctlGetWinsize(0, unix.TIOCGWINSZ)
		if sizeErr != nil {
			fmt.Println("no terminal")
			return
		}
		fmt.Printf("terminal %dx%d\n", size.Col, size.Row)
	}
	if err != nil {
		fmt.Println(arg + ": error")
	}
}

func grow(path string) error {
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.WriteString("x"); err != nil {
		return err
	}
	st, err := f.Stat()
	if err == nil {
		fmt.Println("size", st.Size())
	}
	return err
}

func printIdentity() error {
	status, err := os.ReadFile("/proc/self/status")
	for line := range strings.Lines(string(status)) {
		for _, key := range []string{"CapEff:", "NoNewPrivs:", "Seccomp:"} {
			if strings.HasPrefix(line, key) {
				fmt.Println(strings.Join(strings.Fields(line), " "))
			}
		}
	}
	fmt.Println("uid", os.Getuid(), "gid", os.Getgid())
	return err
}

// Played is what the program would do.
type Played struct {
	Lines    []string
	Ends     bool
	ExitCode int
}

// Play interprets the arguments as the program would, without files.
func Play(args []string, env map[string]string) Played {
	var p Played
	for _, word := range args {
		verb, arg, _ := strings.Cut(word, "=")
		switch verb {
		case "say", "err":
			p.Lines = append(p.Lines, arg)
		case "env":
			p.Lines = append(p.Lines, arg+"="+env[arg])
		case "exit":
			p.ExitCode, _ = strconv.Atoi(arg)
			p.Ends = true
			return p
		case "serve":
			return p
		}
	}
	p.Ends = true
	return p
}
