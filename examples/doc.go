// Package examples tests the images that build-images.sh makes, without Ployz: each is unpacked
// and run by runc in a network namespace of its own, and the whole shop has to work. What Ployz
// adds is tested elsewhere; if these tests pass and a deploy of the shop fails, the fault is not
// in the images.
//
// The programs themselves are in shop/app (the application) and ocibuild (the image writer).
package examples
