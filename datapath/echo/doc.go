// Package echo measures round trips through the overlay: ICMPv6 echo requests to the overlay addresses of
// other machines, which their kernels answer whether or not any of our programs runs there.
//
// It needs the right to open a raw socket. It must never be used for deciding whether a machine is dead: what it
// measures is an observation, true at the moment that it was made.
package echo
