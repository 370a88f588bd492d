package overlay

// MountRelative is the way for kernels without lowerdir+, which tests try on any kernel.
var MountRelative = mountRelative
