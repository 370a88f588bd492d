package runtimetest

import (
	"strconv"
	"strings"
)

// Source is the Go text of the workload, for a static binary at /program of the test's image.
// Its arguments are words that it acts on in order:
//
//	say=TEXT     prints TEXT to standard output
//	err=TEXT     prints TEXT to standard error
//	env=NAME     prints NAME=value
//	cat=PATH     prints the file's content, or "PATH: error"
//	write=PATH   creates the file, or prints "PATH: error"
//	grow=PATH    appends one byte to the file and prints its size
//	id           prints uid, gid, effective capabilities and no-new-privileges of the process
//	echo         copies standard input to standard output until its end
//	exit=N       ends with status N
//	deaf         ignores SIGTERM from here on
//	serve        waits until SIGTERM and ends with status 0
const Source = `package main

import (
	"fmt"
	"io"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
)

func main() {
	for _, word := range os.Args[1:] {
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
	case "cat":
		text, err := os.ReadFile(arg)
		report(arg, err)
		os.Stdout.Write(text)
	case "write":
		f, err := os.Create(arg)
		report(arg, err)
		f.Close()
	case "grow":
		f, err := os.OpenFile(arg, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
		report(arg, err)
		f.WriteString("x")
		st, err := f.Stat()
		report(arg, err)
		fmt.Println("size", st.Size())
		f.Close()
	case "id":
		status, _ := os.ReadFile("/proc/self/status")
		for _, line := range strings.Split(string(status), "\n") {
			if strings.HasPrefix(line, "CapEff") || strings.HasPrefix(line, "NoNewPrivs") || strings.HasPrefix(line, "Seccomp:") {
				fmt.Println(strings.Join(strings.Fields(line), " "))
			}
		}
		fmt.Println("uid", os.Getuid(), "gid", os.Getgid())
	case "echo":
		io.Copy(os.Stdout, os.Stdin)
	case "exit":
		n, _ := strconv.Atoi(arg)
		os.Exit(n)
	case "deaf":
		signal.Ignore(syscall.SIGTERM)
	case "serve":
		c := make(chan os.Signal, 1)
		signal.Notify(c, syscall.SIGTERM)
		<-c
		fmt.Println("bye")
		os.Exit(0)
	}
}

func report(path string, err error) {
	if err != nil {
		fmt.Println(path + ": error")
	}
}
`

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
