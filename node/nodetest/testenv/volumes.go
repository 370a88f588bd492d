package testenv

// Btrfs is for tests that make and mount a Btrfs file system of their own.
var Btrfs = Feature{"btrfs", missingBtrfs}

func missingBtrfs() string {
	if why := missingFile("/dev/loop-control")(); why != "" {
		return why
	}
	return program("mkfs.btrfs", "btrfs-progs")()
}

// ZFS is for tests that make an OpenZFS pool of their own.
var ZFS = Feature{"zfs", missingZFS}

func missingZFS() string {
	if why := missingFile("/dev/zfs")(); why != "" {
		return why
	}
	return program("zpool", "zfsutils-linux")()
}
