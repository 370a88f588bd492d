package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"strconv"
	"time"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "ocibuild:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) == 0 {
		return errors.New("say what to do: diff or image")
	}
	switch verb := args[0]; verb {
	case "diff":
		return runDiff(args[1:])
	case "image":
		return runImage(args[1:])
	default:
		return fmt.Errorf("unknown verb %q: it is diff or image", verb)
	}
}

func runDiff(args []string) error {
	flags := flag.NewFlagSet("diff", flag.ContinueOnError)
	base := flags.String("base", "", "tar `file` of the tree below")
	full := flags.String("full", "", "tar `file` of the whole tree")
	out := flags.String("out", "", "tar `file` to write the layer to")
	if err := flags.Parse(args); err != nil {
		return err
	}
	return diffTars(*base, *full, *out)
}

func runImage(args []string) error {
	flags := flag.NewFlagSet("image", flag.ContinueOnError)
	out := flags.String("out", "", "`folder` of the layout; replaced as a whole")
	name := flags.String("name", "", "the image's name:tag")
	config := flags.String("config", "", "JSON `file` with the image's configuration (User, Env, ...)")
	if err := flags.Parse(args); err != nil {
		return err
	}
	created, err := sourceDate(os.Getenv("SOURCE_DATE_EPOCH"))
	if err != nil {
		return err
	}
	return writeImage(image{name: *name, configFile: *config, layerFiles: flags.Args(), created: created}, *out)
}

// sourceDate reads SOURCE_DATE_EPOCH: seconds since 1970. Unset means 1970 itself, never now.
func sourceDate(text string) (time.Time, error) {
	if text == "" {
		return time.Unix(0, 0).UTC(), nil
	}
	seconds, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return time.Time{}, fmt.Errorf("SOURCE_DATE_EPOCH is %q, not a number of seconds", text)
	}
	return time.Unix(seconds, 0).UTC(), nil
}
