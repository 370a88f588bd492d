package testenv

import "os"

// Long is for tests that take a minute: they run where PLOYZ_TEST_LONG is set, or where
// PLOYZ_TEST_REQUIRE asks for "long".
var Long = Feature{"long", missingLong}

func missingLong() string {
	if os.Getenv("PLOYZ_TEST_LONG") != "" || required("long") {
		return ""
	}
	return "set PLOYZ_TEST_LONG=1"
}

// Loop is for tests that mount a file system of their own from a file.
var Loop = Feature{"loop", missingLoop}

func missingLoop() string {
	if _, err := os.Stat("/dev/loop-control"); err != nil {
		return err.Error()
	}
	return program("mkfs.ext4", "e2fsprogs")()
}
