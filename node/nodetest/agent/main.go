// Command agent is the program that tests put into labs, and into the images that they deploy. Its
// first argument says what it plays:
//
//	load     the generator of node/nodetest/load: plan on standard input, report on standard output
//	facts    prints the cluster's facts as this machine's mirror has them, but for leases
//	knock    tries to get into a core with somebody's keys
//	spoil    puts what nobody can read in the place of a fact
//	serve    an application: see serve.go
//	ask      ask NETWORK SERVER NAME TYPE: asks a resolver and prints the answers' values
//
// Anything else are words of node/runtime/runtimetest, such as `say=hello exit=3`.
package main

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/miekg/dns"

	"github.com/ployz/ployz/node/nodetest/load"
	"github.com/ployz/ployz/node/runtime/runtimetest"
)

func main() {
	if err := play(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "agent:", err)
		os.Exit(1)
	}
}

func play(args []string) error {
	word := ""
	if len(args) > 0 {
		word = args[0]
	}
	switch word {
	case "load":
		return load.Main(os.Stdin, os.Stdout)
	case "facts":
		return printFacts(os.Stdout)
	case "knock":
		return knock(args[1:])
	case "spoil":
		return spoil(args[1:])
	case "serve":
		return serve()
	case "ask":
		return ask(args[1:])
	}
	runtimetest.Main(args)
	return nil
}

func ask(args []string) error {
	if len(args) != 4 {
		return errors.New("ask NETWORK SERVER NAME TYPE")
	}
	m := new(dns.Msg)
	m.SetQuestion(dns.Fqdn(args[2]), dns.StringToType[args[3]])
	answer, _, err := (&dns.Client{Net: args[0]}).Exchange(m, args[1])
	if err != nil {
		return err
	}
	for _, rr := range answer.Answer {
		fmt.Println(strings.TrimPrefix(rr.String(), rr.Header().String()))
	}
	return nil
}
