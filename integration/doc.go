// Package integration tests the product from outside: the built binary, a real
// FUSE mount, a real store, processes that are killed. Nothing of the product
// runs inside the tests, and what they compare with (the oracle) is made of the
// standard library alone: the SHA-256 of each disk, read through the mount while
// the guest is held.
//
// README.md tells what each test shows and how to run longer ones.
package integration
