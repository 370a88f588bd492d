// Package testenv says what a test needs from the machine it runs on, and skips with a
// typed reason where that is missing.
//
// A skip is a promise that somewhere else the test does run. PLOYZ_TEST_REQUIRE names the
// features that this machine is known to have, separated by commas, or "all"; there a missing
// feature is a failure, so that a lost install step cannot hide behind a skip.
package testenv

import (
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// Feature is one thing a test may need: a privilege, a program, or a property of the kernel.
type Feature struct {
	// Name is the word for it in PLOYZ_TEST_REQUIRE and in the skip reason.
	Name string
	// Missing returns why the feature is not here, or "".
	Missing func() string
}

// The features that tests of this repository ask for.
var (
	Root       = Feature{"root", missingRoot}
	Runc       = Feature{"runc", missingRunc}
	Systemd    = Feature{"systemd", missingSystemd}
	Nspawn     = Feature{"nspawn", program("systemd-nspawn", "systemd-container")}
	Overlay    = Feature{"overlay", missingOverlay}
	DevMachine = Feature{"dev-machine", missingDevMachine}
	Analyze    = Feature{"systemd-analyze", program("systemd-analyze", "systemd")}
	TUN        = Feature{"tun", missingFile("/dev/net/tun")}
	DebTools   = Feature{"dpkg", program("dpkg-deb", "dpkg")}
	PostgreSQL = Feature{"postgresql", missingPostgreSQL}
	ShellCheck = Feature{"shellcheck", program("shellcheck", "shellcheck")}
	JQ         = Feature{"jq", program("jq", "jq")}
	// Deb is the package of this checkout, for this computer; DebPath finds it.
	Deb = Feature{"deb", missingDeb}
	// ShopImages are the OCI layouts of the example application.
	ShopImages = Feature{"shop-images", missingShopImages}
)

// Require skips the test unless every feature is present; see the package comment for when
// it fails instead.
func Require(t testing.TB, features ...Feature) {
	t.Helper()
	for _, f := range features {
		why := f.Missing()
		if why == "" {
			continue
		}
		if required(f.Name) {
			t.Fatalf("testenv: %s is required here (PLOYZ_TEST_REQUIRE) but missing: %s", f.Name, why)
		}
		t.Skipf("testenv: needs %s: %s", f.Name, why)
	}
}

func required(name string) bool {
	words := strings.Split(os.Getenv("PLOYZ_TEST_REQUIRE"), ",")
	return slices.Contains(words, name) || slices.Contains(words, "all")
}

func missingRoot() string {
	if os.Geteuid() != 0 {
		return "not running as root"
	}
	return ""
}

// missingRunc looks for the runc that the build made first, since distributions ship ones
// that crash on current kernels.
func missingRunc() string {
	if RuncPath() == "" {
		return "no runc: run `make build`, or set PLOYZ_RUNC"
	}
	return ""
}

// RuncPath returns the runc binary that tests use, or "": $PLOYZ_RUNC, then bin/runc of this checkout.
func RuncPath() string {
	for _, p := range []string{os.Getenv("PLOYZ_RUNC"), repoFile("bin/runc")} {
		if p == "" {
			continue
		}
		if _, err := os.Stat(p); err == nil {
			return p
		}
	}
	return ""
}

// missingSystemd answers for tests that must run inside a machine booted by systemd.
func missingSystemd() string {
	if _, err := os.Stat("/run/systemd/system"); err != nil {
		return "this machine was not booted by systemd"
	}
	return ""
}

// missingDevMachine answers for tests that change what the package installed, which only a
// throw-away machine of `ployzctl dev` may suffer.
func missingDevMachine() string {
	text, err := os.ReadFile("/run/systemd/container")
	if err != nil || strings.TrimSpace(string(text)) != "systemd-nspawn" {
		return "this is not a machine of `ployzctl dev`"
	}
	if _, err := os.Stat("/usr/lib/ployz/ployz-gateway"); err != nil {
		return err.Error()
	}
	return ""
}

func missingOverlay() string {
	text, err := os.ReadFile("/proc/filesystems")
	if err != nil {
		return err.Error()
	}
	if !strings.Contains(string(text), "\toverlay\n") {
		return "the kernel has no overlay file system"
	}
	return ""
}

func missingFile(path string) func() string {
	return func() string {
		if _, err := os.Stat(path); err != nil {
			return err.Error()
		}
		return ""
	}
}

func program(name, debianPackage string) func() string {
	return func() string {
		if _, err := exec.LookPath(name); err != nil {
			return "no " + name + " (Debian: apt install " + debianPackage + ")"
		}
		return ""
	}
}
